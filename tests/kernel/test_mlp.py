"""The fused MLP against its eager twin and against float64, on CUDA or in Triton's interpreter."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from pgolf.kernel.mlp import leaky_square_mlp, leaky_square_mlp_eager
from pgolf.model.mlp import LeakySquareMLP

pytest.importorskip("triton", reason="the fused kernels need the package triton")

from pgolf.kernel.fused import mlp as fused
from pgolf.kernel.fused.mlp_products import SMALL, Tiling, gemm_configurations
from tests.kernel.interpreter import repair

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# bf16 keeps 8 bits: each rounding errs by up to 2^-9 = 0.002 of a value, and a result passes
# through four of them (h, a, dh, out).
TOLERANCE = 1e-2
# Rows, D, F: nano, widths that no tile divides, full widths, rows of no multiple, a width that TMA
# cannot read (the separate form takes over).
SHAPES = [(33, 128, 512), (70, 96, 384), (65, 512, 2048), (1, 128, 256), (24, 100, 294)]
SMALL_TILINGS = {
    "tma": SMALL,
    "tma, one pipeline": SMALL._replace(flatten=True),
    "tma, a program a tile": SMALL._replace(programs_per_sm=0),
    "pointers": SMALL._replace(tma=False),
    "wide": Tiling(32, 128, 32, 4, 2, group_m=2),
    "separate": None,
}


@pytest.fixture(autouse=True)
def repaired_interpreter(monkeypatch):
    repair(monkeypatch)


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


def error(result: Tensor, reference: Tensor) -> float:
    return float((result - reference).norm() / reference.norm())


def assert_close(results, eager, exact) -> None:
    """Near the twin, and about as near to float64 as the twin is."""
    for result, twin, reference in zip(results, eager, exact, strict=True):
        assert (result is None) == (reference is None)
        if result is not None:
            assert error(result, twin) <= TOLERANCE
            assert error(result, reference) <= 1.5 * error(twin, reference)


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


@pytest.mark.parametrize("name", ["tma", "separate"])
def test_h_is_not_written_without_gradients(name: str) -> None:
    x, fc, proj, _ = inputs(9, 32, 64)
    half = fc.bfloat16()
    h, a = fused.activate(x, half, True, SMALL_TILINGS[name])
    nothing, alone = fused.activate(x, half, False, SMALL_TILINGS[name])
    assert h is not None and nothing is None
    assert torch.equal(a, alone)
    # The activation is that of the rounded h, which the backward pass reads.
    assert torch.equal(a, torch.nn.functional.leaky_relu(h, 0.5).square())
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            out = fused.leaky_square_mlp_fused(x, fc, proj)
        assert not out.requires_grad


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
        h, a = fused.activate(x, fc, True, tiling)
        dh = fused.activation_gradient(dout, proj, h, tiling)
    except OutOfResources:
        pytest.skip("does not fit this GPU")
    expected_h, expected_a = fused.activate(x, fc, True, None)
    expected_dh = fused.activation_gradient(dout, proj, h, None)
    for result, reference in ((h, expected_h), (a, expected_a), (dh, expected_dh)):
        assert error(result.double(), reference.double()) <= TOLERANCE
