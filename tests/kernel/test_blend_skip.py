"""Skips blended in: the fused kernel against its twin, and what holds for any input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pgolf.kernel.blend_skip import blend_skip, blend_skip_eager
from tests.kernel import stream
from tests.kernel.precision import check, error

pytest.importorskip("triton", reason="the fused kernels are written in Triton")
from pgolf.kernel.fused.blend_skip import blend_skip_fused

Form = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
FORMS = {"fused": blend_skip_fused, "eager": blend_skip_eager}


def random_inputs(shape: tuple[int, int, int], gated: bool) -> list[Tensor]:
    x, skip, weight, gate = stream.random_inputs(shape, 2, 2)
    return [x, skip, weight, 2 * gate - 2] if gated else [x, skip, weight]


def form_of(form: Form) -> Callable[..., Tensor]:
    return lambda x, skip, weight, gate=None: form(x, skip, weight, gate)


@pytest.mark.parametrize("gated", [True, False], ids=["gated", "added"])
@pytest.mark.parametrize("shape", stream.SHAPES, ids=str)
def test_fused_equals_its_twin(shape: tuple[int, int, int], gated: bool) -> None:
    inputs = random_inputs(shape, gated)
    check(form_of(blend_skip_fused), form_of(blend_skip_eager), inputs)


@pytest.mark.parametrize("frozen", [(0,), (1,), (2,), (3,), (0, 1), (2, 3), (0, 1, 3)], ids=str)
def test_inputs_may_be_frozen(frozen: tuple[int, ...]) -> None:
    inputs = random_inputs((3, 9, 128), gated=True)
    check(form_of(blend_skip_fused), form_of(blend_skip_eager), inputs, frozen)


@settings(max_examples=10, deadline=None)
@given(shape=stream.shapes, gated=st.booleans())
def test_blend_is_right_for_any_shape(shape: tuple[int, int, int], gated: bool) -> None:
    x, skip, weight, *gate = random_inputs(shape, gated)
    exact_x, scaled = x.double(), weight.double() * skip.double()
    share = torch.sigmoid(gate[0].double()) if gate else None
    exact = exact_x + scaled if share is None else share * exact_x + (1 - share) * scaled
    found = blend_skip_fused(x, skip, weight, gate[0] if gate else None)
    assert error(found, exact) <= 4e-3  # one rounding to bf16


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_gate_goes_from_the_skip_to_the_stream(form: Form) -> None:
    x, skip, weight, gate = random_inputs((3, 9, 128), gated=True)
    assert torch.equal(form(x, skip, weight, gate.fill_(80)), x)
    only_skip = form(x, skip, weight, gate.fill_(-80))
    assert error(only_skip, weight.double() * skip.double()) <= 6e-3  # weight and product in bf16


# Where the exponential of the sigmoid overflows, too.
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_extreme_gates_have_finite_gradients() -> None:
    x, skip, weight, gate = random_inputs((1, 5, 384), gated=True)
    gate = torch.linspace(-1e4, 1e4, 384, device=gate.device)
    inputs = [t.requires_grad_() for t in (x, skip, weight, gate)]
    blend_skip_fused(*inputs).sum().backward()
    assert all(t.grad is not None and t.grad.isfinite().all() for t in inputs)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("gated", [True, False], ids=["gated", "added"])
def test_without_gradients_nothing_is_kept(mode: type, gated: bool) -> None:
    inputs = [t.requires_grad_() for t in random_inputs((3, 9, 128), gated)]
    with mode():
        found = form_of(blend_skip_fused)(*inputs)
    assert found.grad_fn is None
    assert torch.equal(found, form_of(blend_skip_fused)(*inputs).detach())


def test_fp32_takes_the_eager_form() -> None:
    inputs = [t.float() for t in random_inputs((3, 9, 128), gated=True)]
    assert torch.equal(blend_skip(*inputs), blend_skip_eager(*inputs))
