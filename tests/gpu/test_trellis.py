"""Trellis codes on a GPU: as good as those of the CPU, and the same but for ties."""

from __future__ import annotations

import pytest
import torch

from pgolf.quant.trellis import trellis_sweep
from pgolf.quant.trellis_decode import reconstruct
from tests.quant.correlated import hessian, inverse_factor, output_error

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("states", [8, 256])
def test_codes_of_a_gpu(states: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 20, 150, generator=generator, dtype=torch.float64)
    moments = hessian(150, 1)
    factor = inverse_factor(moments).expand(2, -1, -1).contiguous()
    inputs = weight, factor, torch.full((2, 20), 0.42)
    expected = trellis_sweep(*inputs, 6, states, 0.1)
    found = trellis_sweep(*(value.cuda() for value in inputs), 6, states, 0.1).cpu()
    # A tie that falls otherwise changes the rest of its row.
    same_rows = (found == expected).all(dim=-1).float().mean()
    assert same_rows > 0.9

    def error(codes: torch.Tensor) -> float:
        numbers = torch.stack([reconstruct(one, states) for one in codes])
        return output_error((weight - 0.42 * numbers).flatten(0, 1), moments)

    assert error(found) == pytest.approx(error(expected), rel=1e-3)
