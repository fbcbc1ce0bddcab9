"""Corrections: near the best that their rank allows, never harmful, and as small as they claim."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pgolf.quant.codes import IntTensor
from pgolf.quant.lowrank import low_rank_correction
from tests.quant.correlated import hessian, output_error


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def product(factors: tuple[IntTensor, IntTensor]) -> Tensor:
    left, right = factors
    return left.dequantize().double() @ right.dequantize().double()


def remaining(error: Tensor, moments: Tensor | None, rank: int, bits: int) -> tuple[float, float]:
    """Share of the weighted error that is left, and the least for any factors of the rank."""
    factors = low_rank_correction(error, moments, rank, bits)
    weights = torch.eye(error.size(1), dtype=torch.float64) if moments is None else moments
    sizes = torch.linalg.svdvals(error.double() @ torch.linalg.cholesky(weights)).square()
    left = output_error(error.double() - product(factors), weights)
    return left / output_error(error, weights), float(sizes[rank:].sum() / sizes.sum())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rank", [1, 4, 16])
def test_close_to_the_best_of_its_rank(weighted: bool, rank: int) -> None:
    moments = hessian(60, 1) if weighted else None
    share, least = remaining(normal(40, 60), moments, rank, 8)
    assert least * 0.9999 < share < least + 0.002
    share, least = remaining(normal(40, 60), moments, rank, 4)
    assert share < least + 0.02


def test_the_hessian_matters() -> None:
    error, moments = normal(40, 60), hessian(60, 1)
    blind = output_error(error.double() - product(low_rank_correction(error, None, 4, 8)), moments)
    share, _ = remaining(error, moments, 4, 8)
    assert share < 0.9 * blind / output_error(error, moments)


@given(
    rows=st.integers(1, 8), columns=st.integers(1, 8), rank=st.integers(1, 12),
    bits=st.integers(2, 8), weighted=st.booleans(),
    size=st.sampled_from([0.0, 1e-12, 1e-4, 1.0, 1e6]), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_never_worse_than_nothing(
    rows: int, columns: int, rank: int, bits: int, weighted: bool, size: float, seed: int
) -> None:
    error = normal(rows, columns, seed=seed) * size
    moments = hessian(columns, seed, decay=3.0) if weighted else None
    left, right = low_rank_correction(error, moments, rank, bits)
    used = min(rank, rows, columns)
    assert left.codes.shape == (rows, used) and right.codes.shape == (used, columns)
    for factor in (left, right):
        assert factor.codes.dtype == torch.int8 and factor.scales.dtype == torch.float16
        assert factor.codes.abs().max() <= 2 ** (bits - 1) - 1 and factor.bits == bits
        assert (factor.scales > 0).all() and torch.isfinite(factor.scales).all()
    weights = torch.eye(columns, dtype=torch.float64) if moments is None else moments
    before = output_error(error, weights)
    after = output_error(error.double() - product((left, right)), weights)
    assert after <= before * (1 + 1e-9)


def test_what_inputs_never_reach_is_no_obstacle() -> None:
    moments = torch.zeros(12, 12)
    moments[:3, :3] = 2 * torch.eye(3)
    error = normal(9, 12)
    left = output_error(
        error.double() - product(low_rank_correction(error, moments, 3, 8)), moments.double()
    )
    assert left < 1e-3 * output_error(error, moments.double())
    left, right = low_rank_correction(error, torch.zeros(12, 12), 9, 8)
    assert float((error - product((left, right))).square().mean()) < 0.01


def test_a_correction_in_its_matrix() -> None:
    weight = normal(20, 30)
    plain = IntTensor((weight / 0.5).round().to(torch.int8), torch.full((20,), 0.5).half(), 6)
    factors = low_rank_correction(weight - plain.dequantize(), None, 8, 4)
    corrected = IntTensor(plain.codes, plain.scales, 6, correction=factors)
    before, after = (
        float((weight - value.dequantize()).square().mean()) for value in (plain, corrected)
    )
    assert after < 0.6 * before
