"""Weights from codes: scales of rows and columns, trellis codes and corrections, by definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pgolf.quant.codes import Codes, IntTensor, column_scales
from tests.artifact_files import random_tensor, rich_tensor

CHECKS = {
    4: (0o5, 0o2), 8: (0o13, 0o4), 16: (0o23, 0o4), 32: (0o45, 0o10), 64: (0o103, 0o24),
    128: (0o235, 0o126), 256: (0o515, 0o362),
}  # fmt: skip


def by_definition(value: IntTensor) -> np.ndarray:
    """In float64, a number at a time."""
    numbers = value.codes.double().numpy().copy()
    if value.states:
        numbers += [[p / 2 - 0.25 for p in parities(row, value.states)] for row in value.codes]
    scales = value.scales.double().numpy().reshape(len(numbers), -1)
    group = value.group_columns or numbers.shape[1]
    weight = numbers * [[row[c // group] for c in range(numbers.shape[1])] for row in scales]
    if value.column_exponents is not None:
        weight *= 2.0 ** (value.column_exponents.double().numpy() / 8)
    if value.correction is not None:
        left, right = value.correction
        weight += by_definition(left) @ by_definition(right)
    return weight


def parities(codes: torch.Tensor, states: int) -> list[int]:
    """From the parity checks in octal, as Ungerboeck's table of 1987 has them."""
    own, bits = CHECKS[states]
    found: list[int] = []
    for n in range(len(codes)):
        total = 0
        for back in range(1, min(n, states.bit_length() - 1) + 1):
            total += (own >> back & 1) * found[n - back] + (bits >> back & 1) * int(codes[n - back])
        found.append(total % 2)
    return found


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("states", [0, *CHECKS])
@pytest.mark.parametrize(("rank", "group"), [(0, 0), (3, 0), (0, 7), (3, 8), (0, 20)])
def test_weights_are_what_the_format_says(
    columns: bool, states: int, rank: int, group: int
) -> None:
    value = rich_tensor(
        (9, 21), 5, states, columns=columns, states=states, rank=rank, group_columns=group
    )
    expected = by_definition(value)
    found = value.dequantize()
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-6)
    weights = Codes({"a": value, "b": torch.ones(3).half()}).weights()
    assert torch.equal(weights["a"], found) and weights["b"].dtype == torch.float32


def test_plain_codes_are_exactly_code_times_scale() -> None:
    value = random_tensor((5, 7), 8, 1)
    assert isinstance(value, IntTensor)
    assert torch.equal(value.dequantize(), value.codes.float() * value.scales.float()[:, None])


def test_a_correction_does_not_depend_on_the_order_of_its_sum() -> None:
    value = rich_tensor((30, 40), 6, 2, rank=33, factor_bits=8)
    assert value.correction is not None
    left, right = value.correction
    order = torch.randperm(33, generator=torch.Generator().manual_seed(0))
    other = IntTensor(
        value.codes, value.scales, 6, correction=(
            IntTensor(left.codes[:, order], left.scales, 8),
            IntTensor(right.codes[order], right.scales[order], 8),
        ),
    )  # fmt: skip
    assert torch.equal(value.dequantize(), other.dequantize())


def test_column_scales_are_eighths_of_octaves() -> None:
    found = column_scales(torch.tensor([-128, -8, 0, 4, 8, 127], dtype=torch.int8))
    assert found.tolist() == pytest.approx([2.0**-16, 0.5, 1.0, 2**0.5, 2.0, 2 ** (127 / 8)])
    assert found[1:3].tolist() == [0.5, 1.0]


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 1), (3, 2)])
def test_small_matrices(shape: tuple[int, int]) -> None:
    for states in (0, 4, 32):
        codes = torch.zeros(shape, dtype=torch.int8)
        value = IntTensor(codes, torch.ones(shape[0]).half(), 6, states=states)
        assert value.dequantize().shape == shape
