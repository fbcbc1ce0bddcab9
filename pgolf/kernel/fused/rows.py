# mypy: disallow-untyped-defs=False
"""What the kernels of the residual stream share: tiles of rows [ROWS, D2] of contiguous [.., D].

D2 is D rounded up to a power of two, as Triton has it; the columns from D on are masked. Gradients
of vectors [D] are summed without atomics: each program keeps its sum in registers, writes one
column of a buffer, and torch adds the columns, in the same order every time (columns, because torch
adds 660 numbers that lie side by side three times as fast as 660 rows).
"""

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl

# Elements of a tile, for 128 threads: four loads of 16 bytes a tensor and thread forward, one
# backward, where there are up to five tensors, and the sums take registers too.
FORWARD_TILE, BACKWARD_TILE = 4096, 1024
# So many of the backward programs fit at once, at the 96 registers a thread that they need at most.
PROGRAMS_PER_SM = 5
# What F.rms_norm adds to the mean square by default, for bf16 inputs too.
EPS = tl.constexpr(torch.finfo(torch.float32).eps)


@triton.jit
def tile_at(first, num_rows, D: tl.constexpr, ROWS: tl.constexpr, D2: tl.constexpr):
    """Offsets, int64, of the elements of rows first to first + ROWS - 1, and which exist."""
    row, column = first + tl.arange(0, ROWS), tl.arange(0, D2)
    at = row.to(tl.int64)[:, None] * D + column[None, :]
    return at, (row < num_rows)[:, None] & (column < D)[None, :]


@triton.jit
def load_tile(ptr, at, live):
    """fp32, 0 where there is no element."""
    return tl.load(ptr + at, mask=live, other=0.0).to(tl.float32)


@triton.jit
def store_tile(ptr, tile, at, live):
    """In the dtype of the target."""
    tl.store(ptr + at, tile.to(ptr.dtype.element_ty), mask=live)


@triton.jit
def rounded(tile, ptr):
    """fp32, with the precision of what lies at a pointer."""
    return tile.to(ptr.dtype.element_ty).to(tl.float32)


@triton.jit
def load_vector(ptr, D: tl.constexpr, D2: tl.constexpr):
    """fp32 [1, D2], for all rows of a tile."""
    column = tl.arange(0, D2)
    return tl.load(ptr + column, mask=column < D, other=0.0).to(tl.float32)[None, :]


@triton.jit
def load_columns(ptr, D: tl.constexpr, ROWS: tl.constexpr, D2: tl.constexpr):
    """`load_vector` as a whole tile [ROWS, D2]: each thread reads just the columns that it has.

    For vectors read again for every tile, from the cache, so that they need no registers between.
    """
    at = (tl.arange(0, ROWS) * 0)[:, None] + tl.arange(0, D2)[None, :]
    return tl.load(ptr + at, mask=at < D, other=0.0).to(tl.float32)


@triton.jit
def store_sum(ptr, tile, D: tl.constexpr, D2: tl.constexpr):
    """The sum of a tile over its rows, as this program's column of a buffer [D, programs]."""
    column = tl.arange(0, D2)
    at = column * tl.num_programs(0) + tl.program_id(0)
    tl.store(ptr + at, tl.sum(tile, 0), mask=column < D)


@triton.jit
def store_with_norm(value_ptr, normed_ptr, value, norm_scale, at, live, D: tl.constexpr):
    """Write a value, and the norm of what was written: the norm sees the rounded value."""
    value = value.to(value_ptr.dtype.element_ty)
    tl.store(value_ptr + at, value, mask=live)
    value = value.to(tl.float32)
    factor = tl.rsqrt(tl.sum(value * value, 1) / D + EPS) * norm_scale
    store_tile(normed_ptr, value * factor[:, None], at, live)


@triton.jit
def gradient_with_norm(
    dvalue_ptr, dnormed_ptr, value, norm_scale, at, live,
    HAS_DVALUE: tl.constexpr, HAS_DNORMED: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """The gradient of `store_with_norm`'s value (as rounded), from those of what it wrote."""
    d = tl.zeros_like(value)
    if HAS_DVALUE:
        d += load_tile(dvalue_ptr, at, live)
    if HAS_DNORMED:
        # Read before the sum over the row, at which all threads wait for each other.
        dn = load_tile(dnormed_ptr, at, live) * norm_scale
        rstd = tl.rsqrt(tl.sum(value * value, 1) / D + EPS)[:, None]
        n = value * rstd
        d += rstd * (dn - n * (tl.sum(dn * n, 1) / D)[:, None])
    return d


def tile_sizes(model_dim: int, num_elements: int) -> dict[str, int]:
    """The sizes that kernels take: D, its power of two D2, and ROWS for a tile of so many."""
    width = triton.next_power_of_2(model_dim)
    return {"D": model_dim, "ROWS": max(num_elements // width, 1), "D2": width}


def num_programs(
    device: torch.device, num_rows: int, rows_per_program: int, per_sm: int = PROGRAMS_PER_SM
) -> int:
    """Programs that stay on the device and go through all rows, rows_per_program at a time."""
    return min(triton.cdiv(num_rows, rows_per_program), per_sm * _num_sms(device))


@cache
def _num_sms(device: torch.device) -> int:
    if device.type != "cuda":
        return 1  # Triton's interpreter runs programs one after the other
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
