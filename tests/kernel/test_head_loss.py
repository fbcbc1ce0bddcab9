"""Softcapped loss of the head: the fused form against its twin."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pgolf.kernel.head_loss import softcapped_loss, softcapped_loss_eager, softcapped_nll_eager
from tests.kernel.precision import DEVICE, check, error, outputs_and_gradients

pytest.importorskip("triton", reason="the fused kernels are written in Triton")
from pgolf.kernel.fused.head_loss import softcapped_loss_fused, softcapped_nll_fused

# (B, T, D, V): full widths; nano; no powers of two; one token.
SHAPES = [(1, 5, 512, 8192), (3, 7, 128, 1024), (2, 5, 96, 300), (1, 1, 16, 33)]


def random_inputs(
    B: int, T: int, D: int, V: int, spread: float = 3.0
) -> tuple[list[Tensor], Tensor]:
    """x as it leaves its norm and W so that logits have about this standard deviation."""
    generator = torch.Generator().manual_seed(B * T + V)
    x_BTD = torch.randn(B, T, D, generator=generator).bfloat16()
    weight_VD = (torch.randn(V, D, generator=generator) * spread / D**0.5).bfloat16()
    targets_BT = torch.randint(V, (B, T), generator=generator)
    return [x_BTD.to(DEVICE), weight_VD.to(DEVICE)], targets_BT.to(DEVICE)


@pytest.mark.parametrize("frozen", [(), (0,), (1,)], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fused_equals_its_twin(shape: tuple[int, int, int, int], frozen: tuple[int, ...]) -> None:
    inputs, targets = random_inputs(*shape)
    check(
        lambda *x: softcapped_loss_fused(*x, targets, 30.0),
        lambda *x: softcapped_loss_eager(*x, targets, 30.0),
        inputs,
        frozen=frozen,
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_losses_of_positions_have_the_mean_loss_as_their_mean(shape: tuple) -> None:
    inputs, targets = random_inputs(*shape)
    found = softcapped_nll_fused(*inputs, targets, 30.0)
    exact = softcapped_nll_eager(*(x.double() for x in inputs), targets, 30.0)
    assert found.dtype == torch.float32 and found.shape == targets.shape
    assert error(found, exact) <= 1e-2  # logits are rounded to bf16
    mean = softcapped_loss_fused(*inputs, targets, 30.0)
    torch.testing.assert_close(found.mean(), mean.detach(), rtol=1e-6, atol=0)


# Beyond the range of exp, which the interpreter remarks upon.
@pytest.mark.filterwarnings("ignore:overflow encountered in exp")
@pytest.mark.parametrize("spread", [30.0, 3000.0])
def test_logits_far_beyond_the_cap_stay_finite(spread: float) -> None:
    inputs, targets = random_inputs(2, 8, 64, 512, spread)
    loss, *grads = outputs_and_gradients(
        lambda *x: softcapped_loss_fused(*x, targets, 15.0), inputs, (), None
    )
    expected = softcapped_loss_eager(*(x.double() for x in inputs), targets, 15.0)
    assert error(loss, expected) <= 1e-2
    assert all(grad.isfinite().all() for grad in grads)


def test_equal_logits_cost_the_logarithm_of_the_vocabulary() -> None:
    (x, weight), targets = random_inputs(*SHAPES[2])
    loss = softcapped_loss_fused(x, torch.zeros_like(weight), targets, 30.0)
    assert loss.dtype == torch.float32 and loss.shape == ()
    assert loss.item() == pytest.approx(math.log(300), rel=1e-6)


@pytest.mark.parametrize("target", [-100, 1024])
def test_a_target_that_does_not_exist_is_seen(target: int) -> None:
    inputs, targets = random_inputs(*SHAPES[1])
    targets[1, 2] = target
    assert softcapped_loss_fused(*inputs, targets, 30.0).isnan()


def test_the_incoming_gradient_scales_in_fp32() -> None:
    inputs, targets = random_inputs(*SHAPES[1])
    x, weight = (tensor.requires_grad_() for tensor in inputs)
    loss = softcapped_loss_fused(x, weight, targets, 30.0)
    # The buffer of gradients survives a backward, so that the graph can be used again.
    once = torch.autograd.grad(loss, (x, weight), retain_graph=True)
    third = torch.autograd.grad(loss / 3, (x, weight))
    for a, b in zip(once, third, strict=True):
        projection = (a.double() * b.double()).sum() / a.double().square().sum()
        assert projection.item() == pytest.approx(1 / 3, rel=3e-4)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_an_fp32_weight_gets_an_fp32_gradient() -> None:
    (x, weight), targets = random_inputs(*SHAPES[2])
    master = weight.float().requires_grad_()
    softcapped_loss_fused(x, master, targets, 30.0).backward()
    leaf = weight.requires_grad_()
    softcapped_loss_fused(x, leaf, targets, 30.0).backward()
    assert master.grad is not None and leaf.grad is not None
    assert master.grad.dtype == torch.float32 and torch.equal(master.grad, leaf.grad.float())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_nothing_is_kept(mode: type) -> None:
    inputs, targets = random_inputs(*SHAPES[1])
    x, weight = (tensor.requires_grad_() for tensor in inputs)
    with mode():
        loss = softcapped_loss_fused(x, weight, targets, 30.0)
    assert loss.grad_fn is None
    assert torch.equal(loss, softcapped_loss_fused(x, weight, targets, 30.0).detach())


def test_under_autocast_the_result_is_the_same() -> None:
    inputs, targets = random_inputs(*SHAPES[1])
    x, weight = (tensor.requires_grad_() for tensor in inputs)
    plain = softcapped_loss_fused(x, weight, targets, 30.0)
    with torch.autocast(DEVICE, torch.bfloat16):
        loss = softcapped_loss_fused(x, weight, targets, 30.0)
    loss.backward()
    assert torch.equal(loss, plain) and x.grad is not None and x.grad.dtype == x.dtype


def test_fp32_takes_the_eager_form() -> None:
    inputs, targets = random_inputs(*SHAPES[2])
    x, weight = (tensor.float() for tensor in inputs)
    found = softcapped_loss(x, weight, targets, 30.0)
    assert torch.equal(found, softcapped_loss_eager(x, weight, targets, 30.0))
