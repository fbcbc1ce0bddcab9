"""The clip factor against torch's own clipping."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pgolf.optim.clip import mean_and_clip_scale, sum_of_squares

CPU = torch.device("cpu")


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), scale=st.floats(1e-6, 1e3), max_norm=st.floats(1e-3, 10.0))
def test_factor_equals_torchs(seed: int, scale: float, max_norm: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    parameters = [nn.Parameter(torch.zeros(size)) for size in (3, 7, 1)]
    for parameter in parameters:
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
    gradients = [p.grad.clone() for p in parameters]  # type: ignore[union-attr]
    nn.utils.clip_grad_norm_(parameters, max_norm)
    factor = mean_and_clip_scale(sum_of_squares(gradients, CPU), 1, max_norm)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(gradient * factor, parameter.grad)


def test_sums_of_four_ranks_are_clipped_as_their_mean() -> None:
    mean = torch.tensor([3.0, 4.0])
    for max_norm, expected in ((2.5, mean / 2), (100.0, mean)):
        factor = mean_and_clip_scale(sum_of_squares([4 * mean], CPU), 4, max_norm)
        torch.testing.assert_close(4 * mean * factor, expected)


def test_nothing_has_norm_zero_and_nan_stays() -> None:
    assert float(sum_of_squares([], CPU)) == 0.0
    assert mean_and_clip_scale(torch.tensor(float("nan")), 1, 1.0).isnan()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_squares_are_summed_in_fp32(dtype: torch.dtype) -> None:
    # 1 + 65,536 ones: bf16 would stay at 256 long before.
    total = sum_of_squares([torch.ones(1), torch.ones(65_536, dtype=dtype)], CPU)
    assert total.dtype == torch.float32 and float(total) == pytest.approx(65_537)
