"""GPTQ against the textbook in float64, round to nearest, and inputs that break naive versions."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pgolf.distributed import World
from pgolf.errors import RunFailed, UserError
from pgolf.quant.codes import IntTensor
from pgolf.quant.engine import quantize_weights
from pgolf.quant.gptq import GPTQQuantizer
from pgolf.quant.rtn import RTNQuantizer
from tests.model.tiny import random_ids, tiny_recurrent
from tests.quant.golden_gptq import run
from tests.quant.made import output_error, problem, unasked
from tests.reference import require_reference

NAME = "a.weight"
GRID: dict[str, Any] = {
    "bits": 4, "embed_bits": 8, "clip_sigmas": 4.0, "embed_clip_sigmas": 8.0, "min_elements": 1,
}  # fmt: skip


def gptq(weight: Tensor, hessian: Tensor, **changes: Any) -> IntTensor:
    quantizer = GPTQQuantizer(**{**GRID, "calibration_batches": 1, **changes})
    codes = quantize_weights({NAME: weight}, {NAME: hessian}, quantizer.rules, World())
    found = codes.tensors[NAME]
    assert isinstance(found, IntTensor)
    return found


def rtn(weight: Tensor) -> IntTensor:
    codes = quantize_weights({NAME: weight}, {}, RTNQuantizer(**GRID).rules, World())
    found = codes.tensors[NAME]
    assert isinstance(found, IntTensor)
    return found


def textbook(weight: np.ndarray, hessian: np.ndarray, scales: np.ndarray, bits: int) -> np.ndarray:
    """GPTQ by elimination: each column leaves the inverse Hessian of those that remain."""
    limit, num_columns = 2 ** (bits - 1) - 1, len(hessian)
    damped = hessian + 0.01 * hessian.trace() / num_columns * np.eye(num_columns)
    inverse, weight = np.linalg.inv(damped), weight.copy()
    codes = np.zeros_like(weight)
    for column in np.argsort(-hessian.diagonal(), kind="stable"):
        codes[:, column] = np.clip(np.round(weight[:, column] / scales), -limit, limit)
        error = (weight[:, column] - codes[:, column] * scales) / inverse[column, column]
        weight -= np.outer(error, inverse[column])
        # Gaussian elimination of row and column: the inverse without this column of the Hessian.
        row = inverse[column].copy()
        inverse -= np.outer(row, row) / row[column]
    return codes


@given(
    rows=st.integers(1, 9), columns=st.integers(1, 40), block=st.integers(1, 50),
    seed=st.integers(0, 10_000),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_it_equals_the_textbook(rows: int, columns: int, block: int, seed: int) -> None:
    weight, hessian = problem(rows, columns, seed)
    found = gptq(weight, hessian, block_size=block)
    scales = found.scales.double().numpy()
    expected = textbook(weight.double().numpy(), hessian.double().numpy(), scales, bits=4)
    np.testing.assert_array_equal(found.codes.numpy(), expected)


def test_published_codes() -> None:
    missed = [row for row in run(require_reference() / "golden") if not row[1] <= row[2]]
    assert not missed


@given(rows=st.integers(1, 20), columns=st.integers(2, 60), seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_without_correlations_it_rounds_to_nearest(rows: int, columns: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator)
    diagonal = 0.1 + torch.rand(columns, generator=generator)
    found = gptq(weight, torch.diag(diagonal))
    assert torch.equal(found.codes, rtn(weight).codes)
    assert torch.equal(found.scales, rtn(weight).scales)


@pytest.mark.parametrize("seed", range(8))
def test_its_output_error_is_smaller_than_that_of_rounding(seed: int) -> None:
    weight, hessian = problem(32, 96, seed)
    by_rounding = output_error(weight, rtn(weight), hessian)
    assert output_error(weight, gptq(weight, hessian), hessian) < 0.7 * by_rounding


def test_the_size_of_the_hessian_does_not_matter() -> None:
    weight, hessian = problem(8, 24, seed=0)
    expected = gptq(weight, hessian).codes
    for factor in (2.0**-120, 2.0**-20, 2.0**60):
        assert torch.equal(gptq(weight, hessian * factor).codes, expected)


def test_columns_without_input_get_codes_of_zero() -> None:
    weight, hessian = problem(8, 24, seed=1)
    dead = torch.zeros(24, dtype=torch.bool)
    dead[[0, 7, 23]] = True
    hessian[dead], hessian[:, dead] = 0.0, 0.0
    found = gptq(weight, hessian)
    assert not found.codes[:, dead].any()
    assert output_error(weight, found, hessian) <= output_error(weight, rtn(weight), hessian)


@pytest.mark.parametrize("statistics", [{}, {NAME: torch.zeros(24, 24)}])
def test_a_matrix_that_saw_no_input_is_rounded_and_named(statistics: dict[str, Tensor]) -> None:
    weight, _ = problem(8, 24, seed=2)
    quantizer = GPTQQuantizer(**GRID, calibration_batches=1)
    with pytest.warns(UserWarning, match=r"a\.weight"):
        found = quantize_weights({NAME: weight}, statistics, quantizer.rules, World())
    assert torch.equal(found.weights()[NAME], rtn(weight).dequantize())


def test_damping_rises_until_the_hessian_is_positive_definite() -> None:
    weight, hessian = problem(8, 24, seed=3)
    hessian -= 0.3 * torch.diag(hessian.diagonal())  # far from positive definite
    assert torch.linalg.eigvalsh(hessian).min() < 0
    with pytest.warns(UserWarning, match=r"a\.weight.*damping"):
        found = gptq(weight, hessian, damping=0.0)
    assert found.dequantize().isfinite().all()


def test_a_singular_hessian_without_damping_is_no_crash() -> None:
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = gptq(weight, torch.ones(6, 6), damping=0.0)
    assert found.dequantize().isfinite().all()


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e-7, 3e4, 1e30])
def test_rows_of_any_size_stay_finite(value: float) -> None:
    weight, hessian = problem(8, 24, seed=4)
    weight[3], weight[5] = value, value * weight[5]
    found = gptq(weight, hessian)
    assert found.dequantize().isfinite().all() and (found.scales > 0).all()
    expected = gptq(weight[[0, 1]], hessian)  # rows are independent
    assert torch.equal(found.codes[:2], expected.codes)


def test_a_hessian_that_is_not_finite_is_refused() -> None:
    weight, hessian = problem(8, 24, seed=5)
    hessian[2, 3] = float("nan")
    with pytest.raises(RunFailed, match=r"a\.weight.*diverged"):
        gptq(weight, hessian)


@pytest.mark.parametrize(
    "change", [{"block_size": 0}, {"damping": -0.1}, {"calibration_batches": 0}]
)
def test_values_outside_their_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"quant.{next(iter(change))}="):
        GPTQQuantizer(**{**GRID, "calibration_batches": 1, **change})


def loss(model: nn.Module, values: dict[str, Tensor], ids: Tensor, target: Tensor) -> float:
    model.load_state_dict(values)
    with torch.no_grad():
        return float((model.logits(ids) - target).square().mean())


def test_a_whole_model_keeps_its_outputs_better_than_by_rounding() -> None:
    model, ids = tiny_recurrent(), random_ids(8, 16)
    model.recurrence(True)
    grid = {**GRID, "embed_bits": 4, "embed_clip_sigmas": 4.0, "min_elements": 200}
    quantizer = GPTQQuantizer(**grid, calibration_batches=1)
    swept = quantizer.quantize(model, [ids], World(), unasked).weights()
    rounded = RTNQuantizer(**grid).quantize(model, [], World(), unasked).weights()
    with torch.no_grad():
        target = model.logits(ids)
    assert loss(model, swept, ids, target) < loss(model, rounded, ids, target)
