"""Inputs for the kernels of the residual stream."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from tests.kernel.precision import DEVICE

# (B, T, D): full width with several programs' worth of rows; nano; no powers of two; one row.
SHAPES = [(2, 17, 512), (3, 9, 128), (1, 37, 96), (1, 5, 384), (1, 1, 128)]
shapes = st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(2, 140))


def random_inputs(shape: tuple[int, int, int], activations: int, vectors: int) -> list[Tensor]:
    """So many bf16 [B, T, D] of unit scale, then so many fp32 [D] about 1."""
    generator = torch.Generator().manual_seed(sum(shape))
    stream = [torch.randn(shape, generator=generator).bfloat16() for _ in range(activations)]
    factors = [1 + 0.5 * torch.randn(shape[-1], generator=generator) for _ in range(vectors)]
    return [x.to(DEVICE) for x in (*stream, *factors)]
