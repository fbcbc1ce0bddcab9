# mypy: disallow-untyped-defs=False
"""Tiles of heads: rows of K elements, each at its own address, in [B, T, heads, K] tensors."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def token_offset(token, seq_len, batch_stride, time_stride):
    """Where tokens, counted over B and T, begin in a tensor with these strides; int64."""
    batch = (token // seq_len).to(tl.int64)
    time = (token % seq_len).to(tl.int64)
    return batch * batch_stride + time * time_stride


@triton.jit
def load_tile(row_ptr, live, COUNT: tl.constexpr, WIDTH: tl.constexpr):
    """fp32 [rows, WIDTH] of the first COUNT elements behind each pointer; 0 where none is live."""
    at = tl.arange(0, WIDTH)
    mask = live[:, None] & (at < COUNT)[None, :]
    return tl.load(row_ptr[:, None] + at[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def store_tile(row_ptr, tile, live, FIRST: tl.constexpr, COUNT: tl.constexpr, WIDTH: tl.constexpr):
    """Write columns FIRST to COUNT - 1 of a tile [rows, WIDTH] behind each live pointer."""
    at = tl.arange(0, WIDTH)
    mask = live[:, None] & ((at >= FIRST) & (at < COUNT))[None, :]
    tl.store(row_ptr[:, None] + at[None, :], tile.to(row_ptr.dtype.element_ty), mask=mask)


def with_contiguous_heads(x_BTHK: Tensor) -> Tensor:
    """x itself where the elements of a head follow each other, as the kernels need it."""
    return x_BTHK if x_BTHK.stride(-1) == 1 else x_BTHK.contiguous()


def rows_for(num_elements: int, width: int) -> int:
    """Rows of a tile of that many elements: a power of two, as the width is."""
    return max(num_elements // width, 1)
