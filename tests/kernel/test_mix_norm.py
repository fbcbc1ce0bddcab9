"""Input mix and norm: the fused kernel against its twin, and what holds for any input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from pgolf.kernel.mix_norm import mix_norm, mix_norm_eager
from tests.kernel import stream
from tests.kernel.precision import DEVICE, check, error

pytest.importorskip("triton", reason="the fused kernels are written in Triton")
from pgolf.kernel.fused.mix_norm import mix_norm_fused

NORM_SCALE = 0.3
Form = Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor, Tensor]]


def random_inputs(shape: tuple[int, int, int]) -> list[Tensor]:
    x, x0, mix, mix0 = stream.random_inputs(shape, 2, 2)
    return [x, x0, torch.stack((mix, mix0))]


def picked(form: Form, outputs: tuple[int, ...]) -> Callable[..., tuple[Tensor, ...]]:
    """A form of which only some outputs are used; the others get no gradient."""

    def function(x: Tensor, x0: Tensor, mix: Tensor) -> tuple[Tensor, ...]:
        found = form(x, x0, mix, NORM_SCALE)
        return tuple(found[index] for index in outputs)

    return function


def check_picked(
    inputs: list[Tensor], outputs: tuple[int, ...] = (0, 1, 2), frozen: tuple[int, ...] = ()
) -> None:
    check(picked(mix_norm_fused, outputs), picked(mix_norm_eager, outputs), inputs, frozen)


@pytest.mark.parametrize("shape", stream.SHAPES, ids=str)
def test_fused_equals_its_twin(shape: tuple[int, int, int]) -> None:
    check_picked(random_inputs(shape))


@pytest.mark.parametrize("outputs", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)], ids=str)
def test_outputs_may_be_left_unused(outputs: tuple[int, ...]) -> None:
    check_picked(random_inputs((3, 9, 128)), outputs)


@pytest.mark.parametrize("frozen", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)], ids=str)
def test_inputs_may_be_frozen(frozen: tuple[int, ...]) -> None:
    check_picked(random_inputs((3, 9, 128)), (0, 1), frozen)


@settings(max_examples=10, deadline=None)
@given(shape=stream.shapes)
def test_norm_has_the_scale_for_any_shape(shape: tuple[int, int, int]) -> None:
    x, x0, mix = random_inputs(shape)
    mixed, normed, again = mix_norm_fused(x, x0, mix, NORM_SCALE)
    expected = mix[0].double() * x.double() + mix[1].double() * x0.double()
    assert error(mixed, expected) <= 4e-3  # one rounding to bf16
    rms = normed.double().square().mean(-1).sqrt()
    # A row far smaller than eps would be shorter; these are of unit scale.
    assert (rms - NORM_SCALE).abs().max() <= 1e-2 * NORM_SCALE
    assert torch.equal(again, x0) and again.data_ptr() == x0.data_ptr()


def test_a_row_of_zeros_stays_zero() -> None:
    x = torch.zeros(2, 3, 96, dtype=torch.bfloat16, device=DEVICE, requires_grad=True)
    mixed, normed, _ = mix_norm_fused(x, x.detach(), torch.ones(2, 96, device=DEVICE), NORM_SCALE)
    (mixed + normed).sum().backward()
    assert not mixed.any() and not normed.any()
    assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize("form", [mix_norm_fused, mix_norm_eager])
def test_x0_handed_on_through_blocks_collects_all_gradients(form: Form) -> None:
    x0, mix = random_inputs((2, 7, 96))[1:]

    def stack(form: Form, x0: Tensor, mix: Tensor, hand_on: bool) -> Tensor:
        x, total = x0, torch.zeros_like(x0)
        for _ in range(4):
            x, normed, again = form(x, x0, mix, NORM_SCALE)
            x0, total = again if hand_on else x0, total + normed
        return total + x

    inputs = [x0.clone().requires_grad_(), mix.clone().requires_grad_()]
    exact = [x.detach().double().requires_grad_() for x in inputs]
    grad = torch.randn(x0.shape, generator=torch.Generator().manual_seed(3)).bfloat16().to(DEVICE)
    found = torch.autograd.grad(stack(form, *inputs, hand_on=True), inputs, grad)
    expected = torch.autograd.grad(
        stack(mix_norm_eager, *exact, hand_on=False), exact, grad.double()
    )
    for a, b in zip(found, expected, strict=True):
        assert error(a, b) <= 2e-2  # four roundings of the stream and of its gradient


def test_gradients_are_the_same_every_time() -> None:
    grads = []
    for _ in range(2):
        inputs = [x.requires_grad_() for x in random_inputs((2, 17, 512))]
        mixed, normed, again = mix_norm_fused(*inputs, NORM_SCALE)
        (mixed * normed * again).sum().backward()
        grads.append([x.grad for x in inputs])
    for a, b in zip(*grads, strict=True):
        assert a is not None and b is not None and torch.equal(a, b)


def test_x0_handed_on_needs_a_gradient_where_x0_does() -> None:
    x, x0, mix = random_inputs((1, 3, 96))
    x.requires_grad_()
    assert not mix_norm_fused(x, x0, mix, NORM_SCALE)[2].requires_grad
    assert mix_norm_fused(x, x0.requires_grad_(), mix, NORM_SCALE)[2].requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_nothing_is_kept(mode: type) -> None:
    inputs = [x.requires_grad_() for x in random_inputs((3, 9, 128))]
    with mode():
        found = mix_norm_fused(*inputs, NORM_SCALE)
    expected = mix_norm_fused(*inputs, NORM_SCALE)
    for a, b in zip(found, expected, strict=True):
        assert a.grad_fn is None and torch.equal(a, b.detach())


def test_autocast_changes_nothing() -> None:
    inputs = [x.requires_grad_() for x in random_inputs((3, 9, 128))]
    with torch.autocast(DEVICE, torch.bfloat16):
        found = mix_norm_fused(*inputs, NORM_SCALE)
    grads = [torch.ones_like(y) for y in found]
    expected = mix_norm_fused(*inputs, NORM_SCALE)
    for a, b in zip(
        (*found, *torch.autograd.grad(found, inputs, grads)),
        (*expected, *torch.autograd.grad(expected, inputs, grads)),
        strict=True,
    ):
        assert a.dtype == b.dtype and torch.equal(a, b)


def test_fp32_takes_the_eager_form() -> None:
    inputs = [x.float() for x in random_inputs((3, 9, 128))]
    found, expected = (form(*inputs, NORM_SCALE) for form in (mix_norm, mix_norm_eager))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
