"""Queries, keys and values for attention: the fused kernel against its twin."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pgolf.kernel.qk_prep import prepare_qkv, prepare_qkv_eager
from tests.kernel.precision import DEVICE, check, error, outputs_and_gradients

pytest.importorskip("triton", reason="the fused kernels are written in Triton")
from pgolf.kernel.fused.qk_prep import prepare_qkv_fused

# (B, T, H, G, K, r): full widths; nano; a head as wide as its rotation; no powers of two.
SHAPES = [(1, 67, 8, 4, 64, 8), (3, 9, 4, 2, 32, 8), (2, 5, 2, 2, 16, 8), (1, 3, 3, 1, 24, 3)]


def random_inputs(B: int, T: int, H: int, G: int, K: int, r: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(B * T + K)
    qkv_BTC = 3 * torch.randn(B, T, (H + 2 * G) * K, generator=generator)
    gain_H = 5 * torch.rand(H, generator=generator)
    angle_1T1r = 9 * torch.rand(1, T, 1, r, generator=generator)
    tables = (angle_1T1r.cos().bfloat16(), angle_1T1r.sin().bfloat16())
    return [x.to(DEVICE) for x in (qkv_BTC.bfloat16(), gain_H, *tables)]


@pytest.mark.parametrize("frozen", [(), (0,), (1,)], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fused_equals_its_twin(
    shape: tuple[int, int, int, int, int, int], frozen: tuple[int, ...]
) -> None:
    heads = shape[2:4]
    check(
        lambda *x: prepare_qkv_fused(*x, *heads),
        lambda *x: prepare_qkv_eager(*x, *heads),
        random_inputs(*shape),
        frozen=(*frozen, 2, 3),
    )


@pytest.mark.parametrize("used", [(0,), (1,), (2,), (3,), (0, 1, 3)], ids=str)
def test_outputs_that_nobody_reads_have_gradients_of_zero(used: tuple[int, ...]) -> None:
    inputs = random_inputs(*SHAPES[1])

    def some_of(prepare):  # type: ignore[no-untyped-def]
        return lambda *x: tuple(prepare(*x, 4, 2)[i] for i in used)

    check(some_of(prepare_qkv_fused), some_of(prepare_qkv_eager), inputs, frozen=(2, 3))


def test_gradients_of_attention_may_be_transposed_or_broadcast() -> None:
    inputs = [x.requires_grad_(i < 2) for i, x in enumerate(random_inputs(*SHAPES[1]))]
    found = []
    for prepare in (prepare_qkv_fused, prepare_qkv_eager):
        q, k, v, _ = prepare(*inputs, 4, 2)
        # Gradients as [B, H, T, K] of attention, and of a sum, where all strides are 0.
        dq = torch.randn(3, 4, 9, 32, generator=torch.Generator().manual_seed(2)).to(q)
        grads = (dq.transpose(1, 2), torch.ones_like(k[:1, :1, :1, :1]).expand_as(k), dq[:, :2].mT)
        outputs = (q, k, v.permute(0, 2, 3, 1))
        found.append(torch.autograd.grad(outputs, inputs[:2], grads))
    for a, b in zip(*found, strict=True):
        assert error(a, b) <= 2e-2  # two bf16 results


def test_values_are_views_and_queries_are_packed() -> None:
    qkv_BTC, *others = random_inputs(*SHAPES[0])
    q, k, v, again = prepare_qkv_fused(qkv_BTC, *others, 8, 4)
    assert q.is_contiguous() and k.is_contiguous()
    expected = qkv_BTC.unflatten(-1, (16, 64))[:, :, 12:]
    assert torch.equal(v, expected) and torch.equal(again, expected)
    assert v.data_ptr() == again.data_ptr() == expected.data_ptr()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_nothing_is_kept(mode: type) -> None:
    qkv_BTC, *others = random_inputs(*SHAPES[1])
    expected = prepare_qkv_fused(qkv_BTC, *others, 4, 2)
    with mode():
        found = prepare_qkv_fused(qkv_BTC.requires_grad_(), *others, 4, 2)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b) and a.grad_fn is None


def test_two_runs_give_the_same_bits() -> None:
    inputs = random_inputs(*SHAPES[0])
    runs = [
        outputs_and_gradients(lambda *x: prepare_qkv_fused(*x, 8, 4), inputs, (2, 3), None)
        for _ in range(2)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_fp32_takes_the_eager_form() -> None:
    inputs = [x.float() for x in random_inputs(*SHAPES[1])]
    found, expected = prepare_qkv(*inputs, 4, 2), prepare_qkv_eager(*inputs, 4, 2)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_rotation_keeps_norms_and_the_norm_is_the_gain() -> None:
    qkv_BTC, gain_H, cos, sin = random_inputs(*SHAPES[0])
    q, k, *_ = prepare_qkv_fused(qkv_BTC, gain_H, cos, sin, 8, 4)
    root_mean_square = q.float().square().mean(-1).sqrt()
    torch.testing.assert_close(root_mean_square, gain_H.expand(1, 67, 8), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(k.float().square().mean(-1), torch.ones(1, 67, 4).to(k.device),
                               rtol=2e-2, atol=2e-2)  # fmt: skip
