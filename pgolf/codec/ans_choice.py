"""Estimates by which `pgolf.codec.ans_encoder` chooses; they need not be exact, nor reproducible.

Legend: as in pgolf/codec/ans_codec.py.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from pgolf.codec.ans_codec import UNIT, Spread
from pgolf.codec.rans import PRECISION, SHAPES, WIDTHS, tables
from pgolf.codec.regression import BELIEFS, Moments

SAMPLE_ROWS, SAMPLE_VALUES = 256, 2**14
GAUSS_BITS = 0.5 * np.log2(2 * np.pi * np.e)


def measure(
    spread: Spread, errors: np.ndarray, place_CN: np.ndarray, symbol_CN: np.ndarray
) -> tuple[float, int, int]:
    """Least bits over widths and shapes, on a sample, with the offset and shape."""
    context_CN = contexts(spread, errors, place_CN)
    every = max(1, context_CN.size // SAMPLE_VALUES)
    context, symbol = context_CN.ravel()[::every], symbol_CN.ravel()[::every]
    found = []
    for shape in range(SHAPES):
        for offset in range(-3, 3):
            moved = np.clip(context + offset * UNIT, 0, WIDTHS * UNIT - 1)
            found.append((float(bits_of(shape)[moved, symbol].sum()), offset, shape))
    return min(found)


def oriented(array: np.ndarray, transposed: int, width: int) -> np.ndarray:
    """A matrix as float64 [width, rows]."""
    rows = array.T if transposed else array
    return np.ascontiguousarray(rows.reshape(-1, width).T.astype(np.float64))


def best_belief(moments: Moments, values_CN: np.ndarray, start: int) -> tuple[int, float]:
    """The setting with the least estimated bits and these, downhill from the last one."""
    if not moments.rows:
        return 0, 0.0
    sample_CN = values_CN[:, :SAMPLE_ROWS]
    known: dict[int, float] = {}

    def bits(belief: int) -> float:
        if belief not in known:
            known[belief] = cost(moments, belief, sample_CN)
        return known[belief]

    best = start
    for way in (-1, 1):
        while 0 <= best + way < len(BELIEFS) and bits(best + way) < bits(best):
            best += way
    return best, bits(best)


def cost(moments: Moments, belief: int, values_CN: np.ndarray) -> float:
    """Estimated bits, up to a constant: Gaussian, with the best common factor of variance."""
    correlation, deviation_C = moments.correlation(belief)
    lower = torch.linalg.cholesky(torch.from_numpy(correlation).float())
    scaled_CN = torch.from_numpy(values_CN / deviation_C[:, None]).float()
    standard_CN = torch.linalg.solve_triangular(lower, scaled_CN, upper=False)
    logs = float(lower.diagonal().log2().mean()) + np.log2(deviation_C).mean()
    power = float((standard_CN * standard_CN).mean())
    return float(values_CN.size * (logs + 0.5 * np.log2(power + 1 / 64) + GAUSS_BITS))


def contexts(spread: Spread, errors_CN: np.ndarray, place_CN: np.ndarray) -> np.ndarray:
    """Contexts of a block whose errors are known, int64 [C, N]."""
    found = np.empty(place_CN.shape, np.int64)
    for c in range(len(found)):
        spread.see(c, errors_CN)
        found[c] = spread.context(c, place_CN[c])
    return found


@cache
def bits_of(shape: int) -> np.ndarray:
    """Bits of each symbol in each context, [contexts, 256]; one without a place costs an escape."""
    table = tables(shape)
    table.need(np.arange(len(table.frequency)))
    escape = PRECISION + 8.0
    cost = np.where(table.frequency, PRECISION - np.log2(np.maximum(table.frequency, 1)), escape)
    return cost.astype(np.float32)
