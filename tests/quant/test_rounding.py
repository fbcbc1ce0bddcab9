"""Rounding that counts bits against a search over all codes, and bits against an integral."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pgolf.quant.rounding import MOST_BITS, Entropy, Nearest, code_bits


def normal_bits(code: int, deviation: float) -> float:
    """-log2 of the share of a normal distribution that rounds to a code, integrated."""
    x = np.linspace(code - 0.5, code + 0.5, 20_001)
    density = np.exp(-0.5 * (x / deviation) ** 2) / (deviation * math.sqrt(2 * math.pi))
    return -math.log2(max(float(np.trapezoid(density, x)), 2.0**-MOST_BITS))


@pytest.mark.parametrize("deviation", [0.3, 1.0, 2.5, 20.0])
def test_bits_are_those_of_a_normal_distribution(deviation: float) -> None:
    codes = list(range(-31, 32))
    found = code_bits(torch.tensor(codes, dtype=torch.float64), torch.tensor(deviation).double())
    expected = [normal_bits(code, deviation) for code in codes]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_the_chosen_code_is_the_best_of_all() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, limit, penalty = 200, 7, 0.15
    weight = 3 * torch.randn(rows, generator=generator, dtype=torch.float64)
    deviation = 0.5 + 2 * torch.rand(rows, generator=generator, dtype=torch.float64)
    importance = 0.5 + torch.rand(2, rows, generator=generator, dtype=torch.float64)
    limits = torch.full_like(weight, limit)
    rounding = Entropy(limits, deviation, torch.full_like(weight, penalty), importance)
    found = rounding(weight, 1, torch.empty_like(weight)).tolist()
    nearest = Nearest(limits)(weight, 1, torch.empty_like(weight)).tolist()
    changed = 0
    for row in range(rows):
        cost = {
            code: (float(weight[row]) - code) ** 2 * float(importance[1, row])
            + penalty * normal_bits(code, float(deviation[row]))
            for code in range(-limit, limit + 1)
        }
        assert found[row] == min(cost, key=lambda code: cost[code])
        changed += found[row] != nearest[row]
    assert 5 < changed < rows / 2
