"""One or two branches added: the fused kernel against its twin, and what holds for any input."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pgolf.kernel.scaled_add import scaled_add, scaled_add_eager
from tests.kernel import stream
from tests.kernel.precision import check, error

pytest.importorskip("triton", reason="the fused kernels are written in Triton")
from pgolf.kernel.fused.scaled_add import scaled_add_fused

Form = Callable[[Tensor, Sequence[Tensor], Sequence[Tensor]], Tensor]
FORMS = {"fused": scaled_add_fused, "eager": scaled_add_eager}


def flat(form: Form) -> Callable[..., Tensor]:
    """Of x, then the branches, then as many scales."""

    def function(x: Tensor, *rest: Tensor) -> Tensor:
        half = len(rest) // 2
        return form(x, rest[:half], rest[half:])

    return function


def random_inputs(shape: tuple[int, int, int], count: int) -> list[Tensor]:
    return stream.random_inputs(shape, 1 + count, count)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("shape", stream.SHAPES, ids=str)
def test_fused_equals_its_twin(shape: tuple[int, int, int], count: int) -> None:
    check(flat(scaled_add_fused), flat(scaled_add_eager), random_inputs(shape, count))


@pytest.mark.parametrize(
    ("count", "frozen"),
    [(1, (0,)), (1, (1,)), (1, (2,)), (1, (1, 2)), (2, (0, 1)), (2, (2, 4)), (2, (1, 2, 3, 4))],
    ids=str,
)
def test_inputs_may_be_frozen(count: int, frozen: tuple[int, ...]) -> None:
    inputs = random_inputs((3, 9, 128), count)
    check(flat(scaled_add_fused), flat(scaled_add_eager), inputs, frozen)


@settings(max_examples=10, deadline=None)
@given(shape=stream.shapes, count=st.integers(1, 2))
def test_sum_is_right_for_any_shape(shape: tuple[int, int, int], count: int) -> None:
    inputs = random_inputs(shape, count)
    found = flat(scaled_add_fused)(*inputs)
    exact = flat(scaled_add_eager)(*(t.double() for t in inputs))
    assert error(found, exact) <= 4e-3  # one rounding to bf16


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_gradient_passes_to_the_stream_as_it_is(form: Form) -> None:
    inputs = [t.requires_grad_() for t in random_inputs((3, 9, 128), 2)]
    out = flat(form)(*inputs)
    assert torch.equal(torch.autograd.grad(out, inputs[0], out.detach())[0], out)


def test_a_branch_may_be_the_stream_itself() -> None:
    x = random_inputs((3, 9, 128), 0)[0].requires_grad_()
    scale = torch.ones(128, device=x.device, requires_grad=True)
    scaled_add_fused(x, [x, x], [scale, scale]).sum().backward()
    assert x.grad is not None and (x.grad == 3).all()
    assert scale.grad is not None
    assert error(scale.grad, 2 * x.detach().double().sum((0, 1))) <= 1e-5


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_nothing_is_kept(mode: type) -> None:
    inputs = [t.requires_grad_() for t in random_inputs((3, 9, 128), 2)]
    with mode():
        found = flat(scaled_add_fused)(*inputs)
    assert found.grad_fn is None
    assert torch.equal(found, flat(scaled_add_fused)(*inputs).detach())


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_branch_has_its_scale(form: Form) -> None:
    x, a, b, scale, _ = random_inputs((1, 5, 384), 2)
    with pytest.raises((AssertionError, ValueError)):
        form(x, [a, b], [scale])


def test_fp32_takes_the_eager_form() -> None:
    inputs = [t.float() for t in random_inputs((3, 9, 128), 2)]
    assert torch.equal(flat(scaled_add)(*inputs), flat(scaled_add_eager)(*inputs))
