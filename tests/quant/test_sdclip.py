"""The grid: scales by their definition, and rows that have no usable standard deviation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.distributed import World
from pgolf.errors import RunFailed, UserError
from pgolf.quant.codes import IntTensor
from pgolf.quant.engine import quantize_weights
from pgolf.quant.grids import largest_code
from pgolf.quant.rtn import RTNQuantizer
from pgolf.quant.rules import rule_for
from pgolf.quant.sdclip import EMBEDDING


def quantizer_of(**changes: Any) -> RTNQuantizer:
    values: dict[str, Any] = {
        "bits": 6, "embed_bits": 8, "clip_sigmas": 12.85, "embed_clip_sigmas": 20.0,
        "min_elements": 1,
    }  # fmt: skip
    return RTNQuantizer(**{**values, **changes})


def rtn(weight: torch.Tensor, name: str = "a.weight", **changes: Any) -> IntTensor:
    codes = quantize_weights({name: weight}, {}, quantizer_of(**changes).rules, World())
    found = codes.tensors[name]
    assert isinstance(found, IntTensor)
    return found


@pytest.mark.parametrize(
    ("name", "sigmas", "limit"), [("a.weight", 12.85, 31), (EMBEDDING, 20, 127)]
)
def test_scale_is_k_standard_deviations_over_the_range(
    name: str, sigmas: float, limit: int
) -> None:
    weight = torch.randn(50, 70, generator=torch.Generator().manual_seed(0)) * 0.03
    expected = [sigmas * np.std(row, ddof=1) / limit for row in weight.double().numpy()]
    found = rtn(weight, name).scales
    assert found.dtype == torch.float16
    np.testing.assert_allclose(found.double().numpy(), expected, rtol=2**-10)


@pytest.mark.parametrize("shape", [(3, 1), (1, 3), (1, 1), (4, 9)])
@pytest.mark.parametrize("value", [0.0, 0.37, -2.5, 1e-7, -1e-12, 3e4, 1e9])
def test_constant_rows_keep_their_value(shape: tuple[int, int], value: float) -> None:
    found = rtn(torch.full(shape, value)).dequantize()
    largest = 65504.0 * 31
    expected = max(-largest, min(largest, value))
    # Half a step of the finest grid, or fp16's rounding of the scale.
    assert (found - expected).abs().max() <= max(2.0**-25, abs(expected) * 2.0**-10)


@given(
    exponent=st.integers(-40, 38), rows=st.integers(1, 4), columns=st.integers(1, 9),
    bits=st.integers(2, 8), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_any_finite_weight_gives_finite_weights_within_half_a_step(
    exponent: int, rows: int, columns: int, bits: int, seed: int
) -> None:
    noise = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).clamp(-3, 3)
    weight = noise * 10.0**exponent
    found = rtn(weight, bits=bits, clip_sigmas=20.0)
    assert (found.scales > 0).all() and found.scales.isfinite().all()
    assert int(found.codes.abs().max()) <= largest_code(bits)
    back = found.dequantize()
    assert back.isfinite().all()
    end = found.scales.double()[:, None] * largest_code(bits)
    inside = weight.double().abs() <= end
    error = (back.double() - weight.double()).abs()
    assert (error <= end / largest_code(bits) / 2 * 1.0001)[inside].all()


def test_mean_beyond_the_grid_is_not_clipped() -> None:
    weight = 5.0 + 0.01 * torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    assert (rtn(weight).dequantize() - weight).abs().max() < 5.0 / 31


def test_only_large_matrices_of_layers_are_quantized() -> None:
    rules = quantizer_of(min_elements=65537).rules
    assert rule_for("a.weight", (256, 256), rules) is None  # 65,536 elements
    assert rule_for("a.weight", (257, 256), rules) is not None
    assert rule_for("skip_weights", (999, 999), rules) is None
    assert rule_for("a.weight", (99, 99, 99), rules) is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(RunFailed, match=r"a\.weight .*diverged"):
        rtn(torch.tensor([[1.0, bad]]))


@pytest.mark.parametrize(
    "change",
    [{"bits": 1}, {"bits": 9}, {"embed_bits": 0}, {"clip_sigmas": 0.0},
     {"embed_clip_sigmas": -1.0}, {"clip_sigmas": float("nan")}, {"min_elements": 0}],
)  # fmt: skip
def test_values_outside_their_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"quant.{next(iter(change))}="):
        quantizer_of(**change)
