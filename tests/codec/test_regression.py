"""Coefficients against numpy's Cholesky factor and against least squares."""

from __future__ import annotations

import numpy as np
import pytest

from pgolf.codec.regression import BELIEFS, ONE, PRIOR_ROWS, Moments, coefficients
from tests.codec.arrays import correlated


def moments_of(values: np.ndarray) -> Moments:
    moments = Moments(values.shape[1])
    moments.add(np.ascontiguousarray(values.T.astype(np.float64)))
    return moments


@pytest.mark.parametrize("columns", [1, 31, 32, 70])
def test_they_are_the_factor_of_the_weakened_second_moments(columns: int) -> None:
    values = correlated(400, columns, np.random.default_rng(columns)).astype(np.float64)
    square = values.T @ values
    mean = np.trace(square) / columns / 400
    for belief, weight in enumerate(BELIEFS):
        found, variance = coefficients(moments_of(values), belief)
        diagonal = (np.diag(square) + PRIOR_ROWS * mean) / (400 + PRIOR_ROWS)
        wanted = weight * square / (400 + PRIOR_ROWS)
        np.fill_diagonal(wanted, diagonal if belief else mean)
        lower = np.linalg.cholesky(wanted)
        unit = lower / np.diag(lower)
        assert np.abs(found / ONE - np.tril(unit, -1)).max() <= 0.51 / ONE
        assert variance == pytest.approx(np.diag(lower) ** 2, rel=1e-4)


def test_a_column_that_repeats_another_is_predicted_by_it() -> None:
    values = np.random.default_rng(0).integers(-20, 21, (5000, 2))
    values[:, 1] = values[:, 0]
    found, variance = coefficients(moments_of(values), len(BELIEFS) - 1)
    slope = np.linalg.lstsq(values[:, :1], values[:, 1], rcond=None)[0][0]
    assert found[1, 0] / ONE == pytest.approx(BELIEFS[-1] * slope, rel=0.02)
    assert variance[1] < 0.25 * variance[0]


def test_columns_of_zeros_and_no_rows_at_all_give_finite_numbers() -> None:
    values = np.random.default_rng(0).integers(-3, 4, (50, 40))
    values[:, 7] = 0
    for moments in (moments_of(values), moments_of(0 * values), Moments(40)):
        for belief in range(len(BELIEFS)):
            found, variance = coefficients(moments, belief)
            assert np.isfinite(found).all() and (variance > 0).all()
