"""Branch, sum and norm: the fused kernel against its twin, and what holds for any input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from pgolf.kernel.add_norm import add_norm, add_norm_eager
from tests.kernel import stream
from tests.kernel.precision import DEVICE, check, error

pytest.importorskip("triton", reason="the fused kernels are written in Triton")
from pgolf.kernel.fused.add_norm import add_norm_fused

NORM_SCALE = 0.3
Form = Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]


def random_inputs(shape: tuple[int, int, int]) -> list[Tensor]:
    return stream.random_inputs(shape, 2, 1)


def check_picked(
    inputs: list[Tensor], outputs: tuple[int, ...] = (0, 1), frozen: tuple[int, ...] = ()
) -> None:
    """Only some outputs are used; the others get no gradient."""

    def picked(form: Form) -> Callable[..., tuple[Tensor, ...]]:
        return lambda *tensors: tuple(form(*tensors, NORM_SCALE)[index] for index in outputs)

    check(picked(add_norm_fused), picked(add_norm_eager), inputs, frozen)


@pytest.mark.parametrize("shape", stream.SHAPES, ids=str)
def test_fused_equals_its_twin(shape: tuple[int, int, int]) -> None:
    check_picked(random_inputs(shape))


@pytest.mark.parametrize("outputs", [(0,), (1,)], ids=str)
def test_outputs_may_be_left_unused(outputs: tuple[int, ...]) -> None:
    check_picked(random_inputs((3, 9, 128)), outputs)


@pytest.mark.parametrize("frozen", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)], ids=str)
def test_inputs_may_be_frozen(frozen: tuple[int, ...]) -> None:
    check_picked(random_inputs((3, 9, 128)), frozen=frozen)


@settings(max_examples=10, deadline=None)
@given(shape=stream.shapes)
def test_sum_and_norm_are_right_for_any_shape(shape: tuple[int, int, int]) -> None:
    x, branch, scale = random_inputs(shape)
    total, normed = add_norm_fused(x, branch, scale, NORM_SCALE)
    expected = x.double() + scale.double() * branch.double()
    assert error(total, expected) <= 4e-3  # one rounding to bf16
    # The norm is a direction of fixed length.
    unit = total.double() / total.double().square().mean(-1, keepdim=True).sqrt()
    assert error(normed, NORM_SCALE * unit) <= 4e-3


def test_a_gradient_along_the_sum_vanishes() -> None:
    x, branch, scale = (t.requires_grad_() for t in random_inputs((1, 5, 384)))
    total, normed = add_norm_fused(x, branch, scale, NORM_SCALE)
    # Longer or shorter rows have the same norm.
    along, across = (
        torch.autograd.grad(normed, x, grad.detach(), retain_graph=True)[0].double().norm()
        for grad in (total, total.roll(1, -1))
    )
    assert along <= 1e-3 * across


def test_a_row_of_zeros_stays_zero() -> None:
    x = torch.zeros(2, 3, 96, dtype=torch.bfloat16, device=DEVICE, requires_grad=True)
    total, normed = add_norm_fused(x, x.detach(), torch.ones(96, device=DEVICE), NORM_SCALE)
    (total + normed).sum().backward()
    assert not total.any() and not normed.any()
    assert x.grad is not None and x.grad.isfinite().all()


def test_gradients_may_be_of_any_layout() -> None:
    inputs = [t.requires_grad_() for t in random_inputs((3, 9, 128))]
    grad = torch.randn(128, 9, 3, generator=torch.Generator().manual_seed(2)).bfloat16().to(DEVICE)
    outputs = add_norm_fused(*inputs, NORM_SCALE)
    apart, packed = (
        torch.autograd.grad(outputs, inputs, (g, g), retain_graph=True)
        for g in (grad.permute(2, 1, 0), grad.permute(2, 1, 0).contiguous())
    )
    assert all(torch.equal(a, b) for a, b in zip(apart, packed, strict=True))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_nothing_is_kept(mode: type) -> None:
    inputs = [t.requires_grad_() for t in random_inputs((3, 9, 128))]
    with mode():
        found = add_norm_fused(*inputs, NORM_SCALE)
    expected = add_norm_fused(*inputs, NORM_SCALE)
    for a, b in zip(found, expected, strict=True):
        assert a.grad_fn is None and torch.equal(a, b.detach())


def test_fp32_takes_the_eager_form() -> None:
    inputs = [t.float() for t in random_inputs((3, 9, 128))]
    found, expected = (form(*inputs, NORM_SCALE) for form in (add_norm, add_norm_eager))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
