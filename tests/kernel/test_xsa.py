"""Exclusive self-attention: the fused kernel against its twin."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pgolf.kernel.xsa import exclude_own_value, exclude_own_value_eager
from tests.kernel.precision import DEVICE, check, error

pytest.importorskip("triton", reason="the fused kernels are written in Triton")
from pgolf.kernel.fused.xsa import exclude_own_value_fused

# (B, T, H, G, K): full widths; nano; ungrouped; no powers of two.
SHAPES = [(1, 67, 8, 4, 64), (3, 9, 4, 2, 32), (2, 5, 2, 2, 16), (1, 7, 6, 1, 24)]


def random_inputs(B: int, T: int, H: int, G: int, K: int) -> tuple[Tensor, Tensor]:
    """y lies as [B, H, T, K], v as the last part of a stacked product."""
    generator = torch.Generator().manual_seed(B * T + K)
    qkv_BTSK = torch.randn(B, T, H + 2 * G, K, generator=generator)
    # Real outputs of attention lie near the values.
    y_BHTK = torch.randn(B, H, T, K, generator=generator)
    y_BHTK += qkv_BTSK[:, :, -G:].repeat_interleave(H // G, 2).transpose(1, 2)
    y, v = y_BHTK.bfloat16().to(DEVICE), qkv_BTSK.bfloat16().to(DEVICE)[:, :, -G:]
    return y.transpose(1, 2), v


@pytest.mark.parametrize("frozen", [(), (0,), (1,)], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fused_equals_its_twin(
    shape: tuple[int, int, int, int, int], frozen: tuple[int, ...]
) -> None:
    inputs = random_inputs(*shape)
    check(exclude_own_value_fused, exclude_own_value_eager, inputs, frozen=frozen)


def test_strides_change_nothing() -> None:
    y, v = random_inputs(*SHAPES[1])
    assert not y.is_contiguous() and not v.is_contiguous()
    packed = exclude_own_value_fused(y.contiguous(), v.contiguous())
    assert torch.equal(exclude_own_value_fused(y, v), packed) and packed.is_contiguous()
    # Not even where a head's elements are apart.
    apart = y.mT.contiguous().mT
    assert apart.stride(-1) != 1 and torch.equal(exclude_own_value_fused(apart, v), packed)


def test_gradients_may_be_transposed() -> None:
    inputs = [x.detach().requires_grad_() for x in random_inputs(*SHAPES[1])]
    grad = torch.randn(3, 32, 4, 9, generator=torch.Generator().manual_seed(2))
    grad = grad.bfloat16().to(DEVICE).permute(0, 3, 2, 1)
    found, expected = (
        torch.autograd.grad(f(*inputs), inputs, grad)
        for f in (exclude_own_value_fused, exclude_own_value_eager)
    )
    for a, b in zip(found, expected, strict=True):
        assert error(a, b) <= 2e-2  # two bf16 results


def test_a_value_of_zero_takes_nothing_away() -> None:
    y, v = (x.detach() for x in random_inputs(*SHAPES[1]))
    y.requires_grad_()
    v = torch.zeros_like(v, requires_grad=True)
    out = exclude_own_value_fused(y, v)
    assert torch.equal(out, y)
    out.sum().backward()
    assert y.grad is not None and (y.grad == 1).all()
    assert v.grad is not None and v.grad.isfinite().all()


def test_nothing_is_left_along_the_value() -> None:
    y, v = random_inputs(*SHAPES[0])
    out = exclude_own_value_fused(y, v).float()
    along = (out.unflatten(2, (4, 2)) * v.float()[:, :, :, None]).sum(-1)
    scale = out.norm() * v.float().norm() / len(along.flatten()) ** 0.5
    assert along.norm() / along.numel() ** 0.5 <= 1e-2 * scale


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_nothing_is_kept(mode: type) -> None:
    y, v = (x.detach().requires_grad_() for x in random_inputs(*SHAPES[1]))
    with mode():
        out = exclude_own_value_fused(y, v)
    assert out.grad_fn is None and torch.equal(out, exclude_own_value_fused(y, v).detach())


def test_fp32_takes_the_eager_form() -> None:
    y, v = (x.float() for x in random_inputs(*SHAPES[1]))
    assert torch.equal(exclude_own_value(y, v), exclude_own_value_eager(y, v))
