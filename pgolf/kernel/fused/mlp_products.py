"""The two matrix products of the MLP that end at its activation, in one Triton kernel.

    forward     h = x fc^T,     a = act(h)              act(h)  = h^2 if h > 0 else (h/2)^2
    backward    da = dout proj, dh = da * act'(h)       act'(h) = 2h  if h > 0 else h/2

The activation is applied to the fp32 accumulator before it leaves the registers. Persistent tiles
in groups, descriptors that TMA reads, and an accumulator stored in halves are the design of
Triton's persistent matmul tutorial; an activation in such a product is known from modded-nanogpt.

Legend: M rows (B*T), D model_dim, F hidden. Everything is bf16 and contiguous; with TMA, D and F
are multiples of 8, since rows must begin at 16 bytes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

CPU_PROGRAMS = 3  # so that the interpreter, too, walks over several tiles in a program


class Tiling(NamedTuple):
    """How one product is cut up."""

    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int
    tma: bool = True  # operands through tensor descriptors, else through pointers
    programs_per_sm: int = 1  # persistent programs; 0: a program for each tile
    flatten: bool = False  # one pipeline over all tiles of a program
    group_m: int = 8  # tiles of rows that share one walk over the columns


# Few rows, or narrow models, whose tiles of a larger size would leave processors idle.
SMALL = Tiling(64, 64, 64, num_warps=4, num_stages=3, programs_per_sm=2)


def gemm_configurations() -> dict[str, Tiling]:
    """Every tiling that bench/mlp_kernel.py measures, by a name.

    "two": two programs on a processor, so that one multiplies while the other stores; they need
    shared memory of up to 113 KiB each. "tiles": a program for each tile. "flat": one pipeline over
    all tiles of a program.
    """
    wide, square = Tiling(128, 256, 64, 8, 3), Tiling(128, 128, 64, 4, 3, programs_per_sm=2)
    tiles: dict[str, Any] = {"programs_per_sm": 0}
    return {
        "128x128x64 w4 s3 two": square,
        "128x128x64 w4 s3 two flat": square._replace(flatten=True),
        "128x128x64 w4 s3 tiles": square._replace(**tiles),
        "128x128x64 w8 s3 two": square._replace(num_warps=8),
        "128x128x64 w8 s3 two flat": square._replace(num_warps=8, flatten=True),
        "128x128x32 w4 s5 two": square._replace(block_k=32, num_stages=5),
        "128x128x32 w4 s5 two flat": square._replace(block_k=32, num_stages=5, flatten=True),
        "128x256x64 w8 s3": wide,
        "128x256x64 w8 s3 flat": wide._replace(flatten=True),
        "128x256x64 w8 s4": wide._replace(num_stages=4),
        "128x256x64 w8 s4 flat": wide._replace(num_stages=4, flatten=True),
        "128x256x64 w8 s3 tiles": wide._replace(**tiles),
        "128x256x32 w8 s6 flat": wide._replace(block_k=32, num_stages=6, flatten=True),
        "256x128x64 w8 s3 flat": wide._replace(block_m=256, block_n=128, flatten=True),
        "pointers 128x128x64 w4 s3 tiles": square._replace(tma=False, **tiles),
        "pointers 128x128x64 w8 s3 tiles": square._replace(tma=False, num_warps=8, **tiles),
        "pointers 128x256x64 w8 s3 tiles": wide._replace(tma=False, **tiles),
        "pointers 128x256x64 w8 s3 flat": wide._replace(tma=False, flatten=True),
    }


def activated_product(
    x_MD: Tensor, fc_FD: Tensor, keep_h: bool, tiling: Tiling
) -> tuple[Tensor | None, Tensor]:
    """h = x fc^T (None unless kept) and a = act(h), both [M, F]."""
    a_MF = x_MD.new_empty(x_MD.size(0), fc_FD.size(0))
    h_MF = torch.empty_like(a_MF) if keep_h else None
    _product(x_MD, fc_FD, h_MF, a_MF, False, tiling)
    return h_MF, a_MF


def gradient_product(dout_MD: Tensor, proj_DF: Tensor, h_MF: Tensor, tiling: Tiling) -> Tensor:
    """dh = (dout proj) * act'(h), [M, F]."""
    dh_MF = torch.empty_like(h_MF)
    _product(dout_MD, proj_DF, h_MF, dh_MF, True, tiling)
    return dh_MF


def _product(
    left_MK: Tensor, right: Tensor, h_MN: Tensor | None, out_MN: Tensor, back: bool, tiling: Tiling
) -> None:
    (M, K), N = left_MK.shape, out_MN.size(1)
    if triton.cdiv(M, tiling.block_m) * triton.cdiv(N, tiling.block_n) < _processors(out_MN):
        # The table's tiling is for products that fill the device.
        tiling = SMALL._replace(tma=tiling.tma, flatten=tiling.flatten)
    block_m, block_n, block_k = tiling[:3]
    tiles = triton.cdiv(M, block_m) * triton.cdiv(N, block_n)
    programs = min(tiles, _processors(out_MN) * tiling.programs_per_sm) or tiles
    stored = [block_m, block_n // 2]
    operands: list[Tensor | TensorDescriptor | None] = [left_MK, right, h_MN, out_MN]
    if tiling.tma:
        blocks = ([block_m, block_k], [block_k, block_n] if back else [block_n, block_k])
        for i, block in enumerate((*blocks, stored, stored)):
            if (tensor := operands[i]) is not None:
                operands[i] = TensorDescriptor.from_tensor(tensor, block)
    _product_kernel[(programs,)](
        *operands, M, N, K, back, h_MN is not None, block_m, block_n, block_k, tiling.group_m,
        tiling.tma, tiling.flatten,
        num_warps=tiling.num_warps, num_stages=tiling.num_stages,
    )  # fmt: skip


def _processors(tensor: Tensor) -> int:
    if not tensor.is_cuda:
        return CPU_PROGRAMS
    return torch.cuda.get_device_properties(tensor.device).multi_processor_count


@triton.jit
def _product_kernel(
    left: tl.tensor, right: tl.tensor, h: tl.tensor, out: tl.tensor, M: tl.tensor,
    N: tl.constexpr, K: tl.constexpr, BACKWARD: tl.constexpr, USE_H: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
    TMA: tl.constexpr, FLATTEN: tl.constexpr,
) -> None:  # fmt: skip
    # left is [M, K]; right is [N, K] forward, [K, N] backward; h (forward: written if USE_H,
    # backward: read) and out are [M, N].
    programs = tl.num_programs(0)
    num_tiles = tl.cdiv(M, BLOCK_M) * tl.cdiv(N, BLOCK_N)
    # The end of a tile counts for itself, so that a flattened loop may already load the next one.
    done = tl.program_id(0) - programs
    for tile in tl.range(tl.program_id(0), num_tiles, programs, flatten=FLATTEN):
        m, n = _corner(tile, M, N, BLOCK_M, BLOCK_N, GROUP_M)
        acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
        for k in tl.range(0, K, BLOCK_K):
            left_tile = _load(left, m, k, M, K, BLOCK_M, BLOCK_K, TMA)
            if BACKWARD:
                right_tile = _load(right, k, n, K, N, BLOCK_K, BLOCK_N, TMA)
            else:
                right_tile = _load(right, n, k, N, K, BLOCK_N, BLOCK_K, TMA).T
            acc = tl.dot(left_tile, right_tile, acc)
        done += programs
        m, n = _corner(done, M, N, BLOCK_M, BLOCK_N, GROUP_M)
        # In halves: buffers for the stores take the room of a stage of operands otherwise.
        HALF: tl.constexpr = BLOCK_N // 2
        lower, upper = tl.split(tl.reshape(acc, (BLOCK_M, 2, HALF)).permute(0, 2, 1))
        _finish(lower, h, out, m, n, M, N, BACKWARD, USE_H, BLOCK_M, HALF, TMA)
        _finish(upper, h, out, m, n + HALF, M, N, BACKWARD, USE_H, BLOCK_M, HALF, TMA)


@triton.jit
def _corner(
    tile: tl.tensor, M: tl.tensor, N: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, GROUP_M: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:  # fmt: skip
    # GROUP_M tiles of rows walk over the columns together: neighbours find both operands in L2.
    in_group = GROUP_M * tl.cdiv(N, BLOCK_N)
    first = tile // in_group * GROUP_M
    height = min(tl.cdiv(M, BLOCK_M) - first, GROUP_M)
    inside = tile % in_group
    return (first + inside % height) * BLOCK_M, inside // height * BLOCK_N


@triton.jit
def _finish(
    acc: tl.tensor, h: tl.tensor, out: tl.tensor, m: tl.tensor, n: tl.tensor, M: tl.tensor,
    N: tl.constexpr, BACKWARD: tl.constexpr, USE_H: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr, TMA: tl.constexpr,
) -> None:  # fmt: skip
    if BACKWARD:
        h_tile = _load(h, m, n, M, N, BLOCK_M, BLOCK_N, TMA)
        _store(out, m, n, acc * slope(h_tile), M, N, BLOCK_M, BLOCK_N, TMA)
    else:
        h_tile = acc.to(tl.bfloat16)  # the activation of what the backward pass will read
        if USE_H:
            _store(h, m, n, h_tile, M, N, BLOCK_M, BLOCK_N, TMA)
        _store(out, m, n, activation(h_tile), M, N, BLOCK_M, BLOCK_N, TMA)


@triton.jit
def _load(
    source: tl.tensor, row: tl.tensor, column: tl.tensor, M: tl.tensor, N: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, TMA: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    # A tile of an [M, N] matrix, zero outside of it.
    if TMA:
        tile = source.load([row, column])
    else:
        offsets, inside = _window(row, column, M, N, ROWS, COLUMNS)
        tile = tl.load(source + offsets, mask=inside, other=0.0)
    return tile


@triton.jit
def _store(
    target: tl.tensor, row: tl.tensor, column: tl.tensor, tile: tl.tensor, M: tl.tensor,
    N: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, TMA: tl.constexpr,
) -> None:  # fmt: skip
    if TMA:
        target.store([row, column], tile.to(tl.bfloat16))
    else:
        offsets, inside = _window(row, column, M, N, ROWS, COLUMNS)
        tl.store(target + offsets, tile.to(tl.bfloat16), mask=inside)


@triton.jit
def _window(
    row: tl.tensor, column: tl.tensor, M: tl.tensor, N: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:  # fmt: skip
    rows, columns = row + tl.arange(0, ROWS)[:, None], column + tl.arange(0, COLUMNS)[None]
    return rows.to(tl.int64) * N + columns, (rows < M) & (columns < N)


@triton.jit
def activation(h: tl.tensor) -> tl.tensor:
    h = h.to(tl.float32)
    leaky = tl.where(h > 0, h, 0.5 * h)
    return leaky * leaky


@triton.jit
def slope(h: tl.tensor) -> tl.tensor:
    h = h.to(tl.float32)
    return tl.where(h > 0, 2.0 * h, 0.5 * h)
