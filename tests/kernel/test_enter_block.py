"""What lies between two blocks: the fused kernel against its twin, and what holds for any input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pgolf.kernel.enter_block import Skip, Stream, enter_block, enter_block_eager
from tests.kernel import stream as inputs_of
from tests.kernel.precision import DEVICE, check, error

pytest.importorskip("triton", reason="the fused kernels are written in Triton")
from pgolf.kernel.fused.enter_block import enter_block_fused

NORM_SCALE = 0.3
Form = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor | None]]
FORMS = {"fused": enter_block_fused, "eager": enter_block_eager}
MIXED, NORMED, AGAIN, KEPT = range(4)


class Variant(NamedTuple):
    """What there is; no branches is the first block."""

    branches: int = 2
    skip: Literal["", "own", "other"] = "other"
    gated: bool = True
    keep: bool = False


SKIPS = [("", False), ("own", False), ("own", True), ("other", False), ("other", True)]
ALL = [
    Variant(branches, skip, gated, keep)
    for branches in (0, 1, 2)
    for skip, gated in SKIPS
    for keep in (False, True)
]
MOST = Variant(keep=True)
variants = st.sampled_from(ALL)


def random_inputs(shape: tuple[int, int, int], variant: Variant) -> list[Tensor]:
    """x0, mix, then what the variant has of: base, branches, kept, scales, weight, gate."""
    gated = variant.gated and variant.skip != ""
    activations = 1 + (1 + variant.branches) * (variant.branches > 0) + (variant.skip == "other")
    vectors = 2 + variant.branches + (variant.skip != "") + gated
    made = inputs_of.random_inputs(shape, activations, vectors)
    mix = torch.stack(made[activations : activations + 2])
    if gated:
        made[-1] = 2 * made[-1] - 2
    return [made[0], mix, *made[1:activations], *made[activations + 2 :]]


def arranged(variant: Variant, rest: Iterator[Tensor]) -> tuple[Stream | None, Skip | None]:
    """The stream and the skip, of what `random_inputs` makes after x0 and mix."""
    base = next(rest) if variant.branches else None
    branches = tuple(next(rest) for _ in range(variant.branches))
    kept = next(rest) if variant.skip == "other" else None
    scales = tuple(next(rest) for _ in range(variant.branches))
    stream = None if base is None else Stream(base, branches, scales)
    if not variant.skip:
        return stream, None
    return stream, Skip(kept, next(rest), next(rest) if variant.gated else None)


def flat(
    form: Form, variant: Variant, outputs: tuple[int, ...] = (MIXED, NORMED, AGAIN, KEPT)
) -> Callable[..., tuple[Tensor, ...]]:
    """Of the tensors of `random_inputs`; outputs that are left out get no gradient."""

    def function(x0: Tensor, mix: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        stream, skip = arranged(variant, iter(rest))
        found = form(stream, x0, mix, NORM_SCALE, skip, variant.keep)
        return tuple(y for y in (found[index] for index in outputs) if y is not None)

    return function


def check_variant(
    variant: Variant,
    shape: tuple[int, int, int] = (3, 9, 128),
    outputs: tuple[int, ...] = (MIXED, NORMED, AGAIN, KEPT),
    frozen: tuple[int, ...] = (),
) -> None:
    fused, eager = (flat(form, variant, outputs) for form in (enter_block_fused, enter_block_eager))
    check(fused, eager, random_inputs(shape, variant), frozen)


@pytest.mark.parametrize("variant", ALL, ids=str)
def test_every_variant_equals_its_twin(variant: Variant) -> None:
    check_variant(variant, (1, 7, 96))


@pytest.mark.parametrize("shape", inputs_of.SHAPES, ids=str)
def test_fused_equals_its_twin_in_all_shapes(shape: tuple[int, int, int]) -> None:
    check_variant(MOST, shape)


@pytest.mark.parametrize(
    "outputs",
    [(MIXED,), (NORMED,), (MIXED, NORMED), (MIXED, AGAIN), (NORMED, KEPT), (NORMED, AGAIN, KEPT)],
    ids=str,
)
def test_outputs_may_be_left_unused(outputs: tuple[int, ...]) -> None:
    check_variant(MOST, outputs=outputs)


def test_gradients_of_what_is_handed_on_pass_as_they_are() -> None:
    x0, mix, base, *rest = inputs = [x.requires_grad_() for x in random_inputs((3, 9, 128), MOST)]
    outputs = flat(enter_block_fused, MOST, (AGAIN, KEPT))(*inputs)
    dagain, dkept = (torch.randn_like(x0) for _ in outputs)
    found = torch.autograd.grad(outputs, [x0, base, mix, rest[2], rest[-1]], [dagain, dkept])
    assert torch.equal(found[0], dagain) and torch.equal(found[1], dkept)
    assert not any(grad.any() for grad in found[2:])


# x0, mix, base, a, b, kept, a_scale, b_scale, weight, gate
@pytest.mark.parametrize(
    "frozen",
    [(0,), (1,), (2,), (3, 6), (5,), (8, 9), (0, 2, 3, 4, 5), (1, 6, 7, 8, 9), (0, 2, 3, 4, 6, 7)],
    ids=str,
)
def test_inputs_may_be_frozen(frozen: tuple[int, ...]) -> None:
    check_variant(MOST, frozen=frozen)


@settings(max_examples=15, deadline=None)
@given(shape=inputs_of.shapes, variant=variants)
def test_values_are_right_for_any_shape(shape: tuple[int, int, int], variant: Variant) -> None:
    x0, mix, *rest = random_inputs(shape, variant)
    stream, skip = arranged(variant, iter(rest))
    found = enter_block_fused(stream, x0, mix, NORM_SCALE, skip, keep_x=variant.keep)
    x = x0.double()
    if stream is not None:
        pairs = zip(stream.branches, stream.scales, strict=True)
        x = stream.base.double() + sum(scale.double() * y.double() for y, scale in pairs)
    entered = x
    if skip is not None:
        scaled = skip.weight.double() * (x if skip.kept is None else skip.kept.double())
        share = None if skip.gate is None else torch.sigmoid(skip.gate.double())
        entered = x + scaled if share is None else share * x + (1 - share) * scaled
    mixed = mix[0].double() * entered + mix[1].double() * x0.double()
    assert error(found[MIXED], mixed) <= 8e-3  # x, what enters and mixed are rounded to bf16
    # A row far smaller than eps would be shorter; these are of unit scale.
    rms = found[NORMED].double().square().mean(-1).sqrt()
    assert (rms - NORM_SCALE).abs().max() <= 1e-2 * NORM_SCALE
    assert torch.equal(found[AGAIN], x0) and found[AGAIN].data_ptr() == x0.data_ptr()
    kept = found[KEPT]
    assert (kept is None) != variant.keep
    assert kept is None or error(kept, x) <= 4e-3  # one rounding


def test_rows_of_zeros_stay_zero() -> None:
    inputs = [x.zero_().requires_grad_() for x in random_inputs((2, 3, 96), MOST)]
    mixed, normed, *_ = flat(enter_block_fused, MOST)(*inputs)
    (mixed + normed).sum().backward()
    assert not mixed.any() and not normed.any()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in inputs)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_gate_goes_from_the_skip_to_the_stream(form: Form) -> None:
    x0, _, *rest = random_inputs((3, 9, 128), MOST)
    stream, skip = arranged(MOST, iter(rest))
    assert stream is not None and skip is not None and skip.gate is not None
    only_x = torch.tensor([[1.0], [0.0]], device=DEVICE).repeat(1, 128)
    mixed, _, _, x = form(stream, x0, only_x, 1.0, skip._replace(gate=skip.gate.fill_(80)), True)
    assert x is not None and torch.equal(mixed, x)
    mixed = form(stream, x0, only_x, 1.0, skip._replace(gate=skip.gate.fill_(-80)))[MIXED]
    assert skip.kept is not None
    # Weight and product are rounded.
    assert error(mixed, skip.weight.double() * skip.kept.double()) <= 6e-3


# Where the exponential of the sigmoid overflows, too.
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("skip", ["own", "other"])
def test_extreme_gates_have_finite_gradients(skip: Literal["own", "other"]) -> None:
    variant = Variant(skip=skip)
    inputs = random_inputs((1, 5, 384), variant)
    inputs[-1] = torch.linspace(-1e4, 1e4, 384, device=DEVICE)
    inputs = [t.requires_grad_() for t in inputs]
    flat(enter_block_fused, variant)(*inputs)[MIXED].sum().backward()
    assert all(t.grad is not None and t.grad.isfinite().all() for t in inputs)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_what_is_handed_on_collects_all_gradients(form: Form) -> None:
    """Blocks as a model has them: x0 and the kept x go from one to the next."""

    def stack(form: Form, x0: Tensor, mix: Tensor, scale: Tensor, weight: Tensor) -> Tensor:
        stream, total, kept = None, torch.zeros_like(x0), None
        for i in range(4):
            # The first skip is the stream itself, the second what the block before kept.
            skip = Skip(kept, weight, scale) if i in (1, 3) else None
            mixed, normed, x0, kept = form(stream, x0, mix, NORM_SCALE, skip, i == 2)
            stream, total = Stream(mixed, (normed,), (scale,)), total + normed
        return total + mixed

    x0, mix, *vectors = random_inputs((2, 7, 96), Variant(0, "own"))
    inputs = [x.clone().requires_grad_() for x in (x0, mix, *vectors)]
    exact = [x.detach().double().requires_grad_() for x in inputs]
    grad = torch.randn(x0.shape, generator=torch.Generator().manual_seed(3)).bfloat16().to(DEVICE)
    found = torch.autograd.grad(stack(form, *inputs), inputs, grad)
    expected = torch.autograd.grad(stack(enter_block_eager, *exact), exact, grad.double())
    for a, b in zip(found, expected, strict=True):
        assert error(a, b) <= 2e-2  # four roundings of the stream and of its gradient


def test_gradients_are_the_same_every_time() -> None:
    grads = []
    for _ in range(2):
        inputs = [x.requires_grad_() for x in random_inputs((2, 17, 512), MOST)]
        mixed, normed, again, x = flat(enter_block_fused, MOST)(*inputs)
        (mixed * normed * again * x).sum().backward()
        grads.append([x.grad for x in inputs])
    for a, b in zip(*grads, strict=True):
        assert a is not None and b is not None and torch.equal(a, b)


def test_x0_handed_on_needs_a_gradient_where_x0_does() -> None:
    x0, mix = random_inputs((1, 3, 96), Variant(0, ""))
    mix.requires_grad_()
    assert not enter_block_fused(None, x0, mix, NORM_SCALE)[AGAIN].requires_grad
    assert enter_block_fused(None, x0.requires_grad_(), mix, NORM_SCALE)[AGAIN].requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_nothing_is_kept(mode: type) -> None:
    inputs = [x.requires_grad_() for x in random_inputs((3, 9, 128), MOST)]
    with mode():
        found = flat(enter_block_fused, MOST)(*inputs)
    expected = flat(enter_block_fused, MOST)(*inputs)
    for a, b in zip(found, expected, strict=True):
        assert a.grad_fn is None and torch.equal(a, b.detach())


def test_autocast_changes_nothing() -> None:
    inputs = [x.requires_grad_() for x in random_inputs((3, 9, 128), MOST)]
    with torch.autocast(DEVICE, torch.bfloat16):
        found = flat(enter_block_fused, MOST)(*inputs)
    grads = [torch.ones_like(y) for y in found]
    expected = flat(enter_block_fused, MOST)(*inputs)
    for a, b in zip(
        (*found, *torch.autograd.grad(found, inputs, grads)),
        (*expected, *torch.autograd.grad(expected, inputs, grads)),
        strict=True,
    ):
        assert a.dtype == b.dtype and torch.equal(a, b)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_branch_has_its_scale(form: Form) -> None:
    x0, mix, base, a, b, _, scale, *_ = random_inputs((1, 5, 384), MOST)
    with pytest.raises((AssertionError, ValueError)):
        form(Stream(base, (a, b), (scale,)), x0, mix, NORM_SCALE)


def test_fp32_takes_the_eager_form() -> None:
    inputs = [x.float() for x in random_inputs((3, 9, 128), MOST)]
    found, expected = (flat(form, MOST)(*inputs) for form in (enter_block, enter_block_eager))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
