"""The fused MLP against its eager twin and against float64, on CUDA or in Triton's interpreter."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from pgolf.kernel.mlp import leaky_square_mlp, leaky_square_mlp_eager
from pgolf.model.mlp import LeakySquareMLP

pytest.importorskip("triton", reason="the fused kernels need the package triton")

from pgolf.kernel.fused import mlp as fused
from pgolf.kernel.fused.mlp_products import SMALL, Tiling, gemm_configurations

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# bf16 keeps 8 bits: rounding is worth about 0.0016 of a norm, twice that for a signed a or a
# rounded h squared. A result passes through four roundings (h, a, dh, out).
TOLERANCE = 1e-2
# How much farther from float64 than the twin a result may be.
SLACK = 1.5
# Rows, D, F: nano, widths that no tile divides, full widths, rows of no multiple, a width that TMA
# cannot read (the separate form takes over).
SHAPES = [(33, 128, 512), (70, 96, 384), (65, 512, 2048), (1, 128, 256), (24, 100, 294)]
SMALL_TILINGS = {
    "small": SMALL,
    "one pipeline": SMALL._replace(flatten=True),
    "wide": Tiling(32, 128, 32, 4, 2, group_m=2),
    "separate": None,
}


def inputs(rows: int, D: int, F: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x and dout in bf16, weights in fp32, all of unit scale at the outputs."""
    torch.manual_seed(seed)
    x, dout = torch.randn(rows, D).bfloat16(), torch.randn(rows, D).bfloat16()
    fc, proj = torch.randn(F, D) / D**0.5, torch.randn(D, F) / F**0.5
    return tuple(tensor.to(DEVICE) for tensor in (x, fc, proj, dout))  # type: ignore[return-value]


def outcome(function, tensors, trained=(True, True, True), dtype=None):
    """The output and the gradients of what is trained, in float64."""
    x, fc, proj, dout = (t.clone() if dtype is None else t.to(dtype) for t in tensors)
    for tensor, wanted in zip((x, fc, proj), trained, strict=True):
        tensor.requires_grad_(wanted)
    with torch.autocast(DEVICE, torch.bfloat16, enabled=dtype is None):
        out = function(x, fc, proj)
    if any(trained):
        out.backward(dout)
    return [
        out.detach().double(),
        *(None if t.grad is None else t.grad.double() for t in (x, fc, proj)),
    ]


def activation(h: Tensor) -> Tensor:
    return torch.where(h > 0, h, h / 2).square()


def error(result: Tensor, reference: Tensor) -> float:
    return float((result - reference).norm() / reference.norm())


def assert_close(results, eager, exact) -> None:
    """Near the twin, and about as near to float64 as the twin is."""
    for result, twin, reference in zip(results, eager, exact, strict=True):
        assert (result is None) == (reference is None)
        if result is not None:
            assert error(result, twin) <= TOLERANCE
            assert error(result, reference) <= SLACK * error(twin, reference)


@pytest.mark.parametrize(("rows", "D", "F"), SHAPES)
def test_fused_equals_the_twin(rows: int, D: int, F: int) -> None:
    tensors = inputs(rows, D, F)
    eager = outcome(leaky_square_mlp_eager, tensors)
    exact = outcome(leaky_square_mlp_eager, tensors, dtype=torch.float64)
    assert_close(outcome(fused.leaky_square_mlp_fused, tensors), eager, exact)


@pytest.mark.parametrize("name", SMALL_TILINGS)
def test_every_form_of_the_products_equals_the_twin(name: str, monkeypatch) -> None:
    monkeypatch.setattr(fused, "FORWARD", SMALL_TILINGS[name])
    monkeypatch.setattr(fused, "BACKWARD", SMALL_TILINGS[name])
    tensors = inputs(130, 136, 264)  # several tiles a program, none of them full at the borders
    eager = outcome(leaky_square_mlp_eager, tensors)
    exact = outcome(leaky_square_mlp_eager, tensors, dtype=torch.float64)
    assert_close(outcome(fused.leaky_square_mlp_fused, tensors), eager, exact)


@pytest.mark.parametrize("trained", itertools.product((False, True), repeat=3))
def test_only_what_is_trained_gets_a_gradient(trained: tuple[bool, bool, bool]) -> None:
    tensors = inputs(9, 32, 64)
    eager = outcome(leaky_square_mlp_eager, tensors, trained)
    exact = outcome(leaky_square_mlp_eager, tensors, trained, dtype=torch.float64)
    assert_close(outcome(fused.leaky_square_mlp_fused, tensors, trained), eager, exact)


# Patterns of finite fp32 of both signs; powers of two and their neighbours, where the distance of
# patterns changes; the largest and the smallest.
PATTERNS = st.integers(0, 0x7F7FFFFF).flatmap(lambda b: st.sampled_from((b, b | 1 << 31)))
CORNERS = [0, 1, 0x3F800000, 0x3F7FFFFF, 0xBF800001, 0x807FFFFF, 0x5F7FFFFF, 0xDFFFFFFF, 0x7F7FFFFF]


@pytest.mark.filterwarnings("ignore:overflow")
@given(st.lists(PATTERNS))
@example([2_684_354_558])  # its square is subnormal, half way between two numbers of its parity
def test_a_signed_activation_is_the_nearest_of_its_parity(patterns: list[int]) -> None:
    h = torch.tensor([*CORNERS, *patterns], dtype=torch.uint32).view(torch.float32)
    a = torch.empty_like(h, dtype=torch.bfloat16, device=DEVICE)
    fused._in_blocks(fused._activate_kernel, a, h.to(DEVICE), True)
    a, exact = a.cpu(), activation(h.double())
    assert not a[exact >= 2.0**128].isfinite().any()
    a, exact, h = (tensor[exact < (2 - 2**-6) * 2.0**127] for tensor in (a, exact, h))
    words = a.view(torch.int16)
    assert torch.equal(words & 1, (h <= 0).short())
    # 7 significant bits; subnormal numbers have fewer.
    distance = (a.double() - exact).abs()
    assert (distance <= 2**-7 * exact + 2.0**-133).all()
    # No neighbour of the same parity is nearer, but for the stretch above powers of two.
    above = (h < 0) & (torch.frexp(exact)[0] <= 0.5 * (1 + 2**-9))
    for step in (-2, 2):
        other = (words + step).view(torch.bfloat16).double()
        # fp32 rounds the square before this rounding, below 2^-126 to multiples of 2^-149.
        farther = (other - exact).abs() >= distance - 2**-23 * exact - 2.0**-149
        assert (farther | above | (words + step < 0)).all()


@pytest.mark.parametrize("h", [float("nan"), -float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_so(h: float) -> None:
    a = torch.empty(1, dtype=torch.bfloat16, device=DEVICE)
    fused._in_blocks(fused._activate_kernel, a, torch.full((1,), h, device=DEVICE), True)
    slope = torch.ones_like(a)
    fused._in_blocks(fused._gradient_kernel, slope, a)
    assert not a.isfinite().any() and not slope.isfinite().any()


@given(st.lists(st.integers(0, 0x7F7F), min_size=1))
def test_the_slope_comes_back_from_any_signed_activation(words: list[int]) -> None:
    a = torch.tensor(words, dtype=torch.int16).to(DEVICE).view(torch.bfloat16)
    slope = torch.ones_like(a)
    fused._in_blocks(fused._gradient_kernel, slope, a)
    root, negative = a.double().sqrt(), (a.view(torch.int16) & 1).bool()
    h = torch.where(negative, -2 * root, root)  # what has this a as its activation
    expected = torch.where(negative, h / 2, 2 * h)
    # The smallest numbers may count as zero.
    assert ((slope.double() - expected).abs() <= 2**-8 * expected.abs() + 2.0**-62).all()


@pytest.mark.parametrize("name", SMALL_TILINGS)
def test_a_signed_activation_is_as_exact_as_the_twin_s(name: str) -> None:
    x, fc, _, _ = inputs(130, 136, 264)
    half, tiling = fc.bfloat16(), SMALL_TILINGS[name]
    h = x.double() @ half.double().T
    twin = torch.nn.functional.leaky_relu(x @ half.T, 0.5).square().double()
    signed = fused.activate(x, half, True, tiling).double()
    plain = fused.activate(x, half, False, tiling).double()
    twin_error = error(twin, activation(h))
    if tiling is None:  # starts from h in bf16, as the twin does
        assert torch.equal(plain, twin)
        assert error(signed, activation(h)) <= SLACK * twin_error
    else:  # starts from h in fp32
        assert error(signed, activation(h)) <= twin_error
        assert error(plain, activation(h)) <= 0.6 * twin_error


@pytest.mark.parametrize("name", ["small", "separate"])
def test_a_step_keeps_one_tensor_of_the_hidden_width(name: str, monkeypatch) -> None:
    monkeypatch.setattr(fused, "FORWARD", SMALL_TILINGS[name])
    x, fc, proj, _ = inputs(9, 32, 64)
    kept: list[Tensor] = []
    x.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        fused.leaky_square_mlp_fused(x, fc, proj)
    assert [t.shape for t in kept].count((9, 64)) == 1
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            out = fused.leaky_square_mlp_fused(x, fc, proj)
        assert not out.requires_grad
        # Without gradients nothing is signed.
        a = fused.activate(x.detach(), fc.bfloat16(), False, SMALL_TILINGS[name])
        assert torch.equal(out, a @ proj.bfloat16().T)


def test_no_row_depends_on_another() -> None:
    x, fc, proj, _ = inputs(40, 64, 128)
    changed = x.clone()
    changed[20:] = 7
    before = fused.leaky_square_mlp_fused(x.view(2, 20, 64), fc, proj)
    after = fused.leaky_square_mlp_fused(changed.view(2, 20, 64), fc, proj)
    assert before.shape == (2, 20, 64)
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])


def test_gradients_have_the_dtype_of_their_parameters() -> None:
    x, fc, proj, dout = inputs(9, 32, 64)
    fc = fc.bfloat16()
    for tensor in (x, fc, proj):
        tensor.requires_grad_()
    fused.leaky_square_mlp_fused(x, fc, proj).backward(dout.t().contiguous().t())
    assert (x.grad.dtype, fc.grad.dtype, proj.grad.dtype) == (
        torch.bfloat16, torch.bfloat16, torch.float32,
    )  # fmt: skip


def test_the_twin_is_the_model_s_mlp() -> None:
    torch.manual_seed(0)
    module, x = LeakySquareMLP(model_dim=32, mlp_mult=3.0), torch.randn(2, 5, 32)
    assert torch.equal(leaky_square_mlp(x, module.fc.weight, module.proj.weight), module(x))


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device")
@pytest.mark.parametrize("name", gemm_configurations())
def test_measured_tilings_are_right_on_many_rows(name: str) -> None:
    from triton.runtime.errors import OutOfResources

    x, fc, proj, dout = inputs(20_011, 512, 2048)
    fc, proj, tiling = fc.bfloat16(), proj.bfloat16(), gemm_configurations()[name]
    try:
        a = fused.activate(x, fc, True, tiling)
        # Of one a for both forms: signs of an h near zero depend on the order of its sum.
        dh = fused.activation_gradient(dout, proj, a, tiling)
    except OutOfResources:
        pytest.skip("does not fit this GPU")
    expected_a = activation(x.double() @ fc.double().T)
    expected_dh = fused.activation_gradient(dout, proj, a, None)
    for result, reference in ((a, expected_a), (dh, expected_dh)):
        assert error(result.double(), reference.double()) <= TOLERANCE
