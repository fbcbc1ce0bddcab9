"""What earlier rows say about a row: each value predicted from those before it in the same row.

The second moments of decoded rows are factored into S = L D L^T: the expected value of a row's
column c is sum over j < c of L_cj * (its error of column j), with variance D_c. Decoder and encoder
must find the very same numbers on any machine, so sums run over whole numbers below 2^53, which
float64 adds exactly in any order, and all else is a single rounded operation an element.
Legend: N rows, C columns.
"""

from __future__ import annotations

import math

import numpy as np

PANEL = 32
FIXED = float(1 << 22)  # the factor's entries are multiples of 2^-22 where they are summed
ONE = 1 << 10  # coefficients are multiples of 2^-10
PRIOR_ROWS, PRIOR_VARIANCE = 64, 6.0
# How much of the correlation is believed; for the first, columns have the same variance as well.
# At most 0.9, so that D stays above 0.1.
BELIEFS = (0.0, 0.0, 0.04, 0.1, 0.2, 0.32, 0.45, 0.6, 0.75, 0.85, 0.9)


class Moments:
    """A weighted sum of outer products of rows, and the weights' sum."""

    def __init__(self, columns: int) -> None:
        self.sum_CC = np.zeros((columns, columns))
        self.rows = 0.0

    def plus(self, other: Moments, weight: float, own_weight: float = 1.0) -> Moments:
        """own_weight * self + weight * other."""
        result = Moments(len(self.sum_CC))
        result.sum_CC = own_weight * self.sum_CC + weight * other.sum_CC
        result.rows = own_weight * self.rows + weight * other.rows
        return result

    def add(self, values_CN: np.ndarray) -> None:
        """Count more rows, float64 whole numbers."""
        self.sum_CC += values_CN @ values_CN.T
        self.rows += values_CN.shape[1]

    def correlation(self, belief: int) -> tuple[np.ndarray, np.ndarray]:
        """Correlations [C, C], weakened by `BELIEFS[belief]`, and standard deviations [C]."""
        diagonal = np.diag(self.sum_CC)
        mean = math.fsum(diagonal) / len(diagonal) / self.rows if self.rows else PRIOR_VARIANCE
        mean = max(mean, 1 / 32)
        prior = mean * PRIOR_ROWS
        if not belief:
            return np.eye(len(diagonal)), np.full(len(diagonal), np.sqrt(mean))
        deviation_C = np.sqrt((diagonal + prior) / (self.rows + PRIOR_ROWS))
        scale_CC = (deviation_C[:, None] * deviation_C) * (self.rows + PRIOR_ROWS)
        correlation = BELIEFS[belief] * (self.sum_CC / scale_CC)
        np.fill_diagonal(correlation, 1.0)
        return correlation, deviation_C


def coefficients(moments: Moments, belief: int) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients [C, C] times 2^10, whole numbers below the diagonal, and variances [C]."""
    correlation, deviation_C = moments.correlation(belief)
    factor, variance_C = _factor(correlation)
    ratio_CC = deviation_C[:, None] / deviation_C
    return np.rint(np.tril(factor, -1) * ratio_CC * ONE), variance_C * deviation_C * deviation_C


def _factor(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """L (below the diagonal) and D of A = L D L^T, in place, panel by panel."""
    for start in range(0, len(A), PANEL):
        panel = A[start:, start : start + PANEL]
        width = panel.shape[1]
        for j in range(width):
            panel[j + 1 :, j] /= panel[j, j]
            panel[j + 1 :, j + 1 :] -= panel[j + 1 :, j, None] * (
                panel[j, j] * panel[j + 1 : width, j]
            )
        below = panel[width:]
        left = np.rint(below * FIXED)
        right = np.rint(below * np.diag(panel) * FIXED)
        A[start + width :, start + width :] -= (left @ right.T) / (FIXED * FIXED)
    return A, np.diag(A).copy()
