"""Bytes over steps: near what codes of known distributions take, and the same on any rank."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pgolf.distributed import World
from pgolf.quant.curves import STEPS, byte_curves
from pgolf.quant.entropy import order0_bits
from pgolf.quant.rules import Rule
from tests.quant.made import problem
from tests.two_workers import run_in_two_workers

ROWS, COLUMNS = 256, 384


def normal(rows: int = ROWS, columns: int = COLUMNS) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))


def bits_of(weight: Tensor, hessian: Tensor, world: World | None = None) -> np.ndarray:
    """Bits a code at each of the steps, without scales."""
    rule = Rule(pattern="a", bits=8, grid="uniform", clip_sigmas=127 * 0.5, columns="water",
                order="natural", rounding="trellis")  # fmt: skip
    curves = byte_curves({"a": weight}, {"a": hessian}, {}, {"a": rule}, world or World())
    steps, sizes = curves["a"]
    assert steps is STEPS
    rows, columns = weight.shape
    return (sizes - 2 * rows - columns / 2) * 8 / weight.numel()


def gaussian_entropy(step: float) -> float:
    """Bits of a standard Gaussian rounded to multiples of a step, by its definition."""
    edges = (np.arange(-200, 201) + 0.5) * step
    below = np.array([0.5 * math.erfc(-edge / math.sqrt(2)) for edge in edges])
    share = np.diff(below)
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum())


def test_gaussian_codes_take_their_entropy() -> None:
    bits = bits_of(normal(), torch.eye(COLUMNS))
    expected = np.array([gaussian_entropy(step) for step in STEPS])
    # 98,304 numbers are not quite a Gaussian, and their histogram is a little too good.
    assert np.abs(bits - expected).max() < 0.01
    assert (np.diff(bits) < 0).all() and bits[0] == pytest.approx(6.047, abs=0.01)


def test_columns_of_different_sizes_take_the_mean_of_their_entropies() -> None:
    # All inputs count alike, so every column has the same step, and large ones need more bits.
    size_C = torch.exp(1.0 * torch.linspace(-1, 1, COLUMNS))
    weight = normal() * size_C
    bits = bits_of(weight, torch.eye(COLUMNS))
    root = float(weight.square().mean().sqrt())
    for at, step in enumerate(STEPS):
        sigmas = (size_C / (step * root)).tolist()
        expected = np.mean([gaussian_entropy(1 / sigma) for sigma in sigmas[8::16]])
        histogram = float(order0_bits((weight / (step * root)).round().clamp(-127, 127)))
        assert bits[at] <= histogram + 0.005
        if step <= 0.5:  # where the bound by variances is close
            assert expected - 0.01 < bits[at] < expected + 0.05


def test_scales_of_rows_and_columns_count() -> None:
    zeros = bits_of(torch.zeros(8, 16), torch.eye(16))
    assert zeros == pytest.approx(np.zeros(len(STEPS)))


def test_entropy_of_a_histogram() -> None:
    codes = torch.tensor([[-127, 127, 0, 0]], dtype=torch.int8)
    assert float(order0_bits(codes)) == pytest.approx(1.5)
    assert float(order0_bits(torch.zeros(0, 3, dtype=torch.int8))) == 0.0


def _found(world: World) -> dict[str, Tensor]:
    weights, hessians, rules = {}, {}, {}
    for index, shape in enumerate([(8, 24), (16, 24), (12, 40)]):
        name = f"m{index}"
        weights[name], hessians[name] = problem(*shape, seed=index)
        rules[name] = Rule(pattern=name, bits=8, grid="uniform", clip_sigmas=60.0, columns="water")
    rows = {"m0": torch.linspace(0.1, 2.0, 8)}
    curves = byte_curves(weights, hessians, rows, rules, world)
    return {name: torch.from_numpy(size) for name, (_, size) in curves.items()}


@pytest.mark.slow
def test_the_number_of_ranks_changes_nothing() -> None:
    expected = _found(World())
    for found in run_in_two_workers(_found):
        assert {n: v.tolist() for n, v in found.items()} == {
            n: v.tolist() for n, v in expected.items()
        }
