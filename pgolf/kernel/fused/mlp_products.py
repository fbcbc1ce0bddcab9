"""The two matrix products of the MLP that end at its activation, in one Triton kernel.

    forward     h = x fc^T,     a = act(h)              act(h)  = h^2 if h > 0 else (h/2)^2
    backward    da = dout proj, dh = da * act'(h)       act'(h) = 2h  if h > 0 else h/2

The activation is applied to the fp32 accumulator before it leaves the registers. h is written
nowhere: all that its gradient needs beside a is the sign of h, since act'(h) = 2 sqrt(a) if h > 0
else -sqrt(a). A training step keeps that sign in the last bit of a's bf16 (1: negative): a takes
the nearest value of the right parity, which costs it one of 8 significant bits. That errs by up to
2^-7 of a, and by less than to round h and then its square, each to 8 bits: variances of 4 to 5.

Persistent tiles in groups, descriptors that TMA reads, and an accumulator stored in halves are the
design of Triton's persistent matmul tutorial; an activation in such a product is known from
modded-nanogpt.

Legend: M rows (B*T), D model_dim, F hidden. Everything is bf16 and contiguous; D and F are
multiples of 8, since TMA wants rows that begin at 16 bytes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

CPU_PROGRAMS = 3  # so that the interpreter, too, walks over several tiles in a program
LAST_BIT = tl.constexpr(1 << 16)  # of a bf16, seen as an fp32


class Tiling(NamedTuple):
    """How one product is cut up."""

    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int
    programs_per_sm: int = 1  # persistent programs
    flatten: bool = False  # one pipeline over all tiles of a program
    group_m: int = 8  # tiles of rows that share one walk over the columns


# Few rows, or narrow models, whose tiles of a larger size would leave processors idle.
SMALL = Tiling(64, 64, 64, num_warps=4, num_stages=3, programs_per_sm=2)


def gemm_configurations() -> dict[str, Tiling]:
    """Every tiling that bench/mlp_kernel.py measures, by a name.

    "two": two programs on a processor, so that one multiplies while the other stores; they need
    shared memory of up to 113 KiB each. "flat": one pipeline over all tiles of a program.
    """
    wide, square = Tiling(128, 256, 64, 8, 3), Tiling(128, 128, 64, 4, 3, programs_per_sm=2)
    return {
        "128x128x64 w4 s3 two": square,
        "128x128x32 w4 s5 two flat": square._replace(block_k=32, num_stages=5, flatten=True),
        "128x256x64 w8 s3 flat": wide._replace(flatten=True),
        "128x256x64 w8 s4 flat": wide._replace(num_stages=4, flatten=True),
        "128x256x32 w8 s6 flat": wide._replace(block_k=32, num_stages=6, flatten=True),
        "256x128x64 w8 s3 flat": wide._replace(block_m=256, block_n=128, flatten=True),
    }


def activated_product(x_MD: Tensor, fc_FD: Tensor, signed: bool, tiling: Tiling) -> Tensor:
    """a = act(x fc^T), [M, F]; signed: with the sign of h in its last bit."""
    a_MF = x_MD.new_empty(x_MD.size(0), fc_FD.size(0))
    _product(x_MD, fc_FD, None, a_MF, signed, tiling)
    return a_MF


def gradient_product(dout_MD: Tensor, proj_DF: Tensor, a_MF: Tensor, tiling: Tiling) -> Tensor:
    """dh = (dout proj) * act'(h), [M, F], by a signed a."""
    dh_MF = torch.empty_like(a_MF)
    _product(dout_MD, proj_DF, a_MF, dh_MF, True, tiling)
    return dh_MF


def _product(
    left_MK: Tensor, right: Tensor, a_MN: Tensor | None, out_MN: Tensor, signed: bool,
    tiling: Tiling,
) -> None:  # fmt: skip
    # With a it is the backward product.
    (M, K), N, back = left_MK.shape, out_MN.size(1), a_MN is not None
    if triton.cdiv(M, tiling.block_m) * triton.cdiv(N, tiling.block_n) < _processors(out_MN):
        # The table's tiling is for products that fill the device.
        tiling = SMALL._replace(flatten=tiling.flatten)
    block_m, block_n, block_k = tiling[:3]
    tiles = triton.cdiv(M, block_m) * triton.cdiv(N, block_n)
    stored = [block_m, block_n // 2]
    describe = TensorDescriptor.from_tensor
    _product_kernel[(min(tiles, _processors(out_MN) * tiling.programs_per_sm),)](
        describe(left_MK, [block_m, block_k]),
        describe(right, [block_k, block_n] if back else [block_n, block_k]),
        None if a_MN is None else describe(a_MN, stored),
        describe(out_MN, stored),
        M, N, K, back, signed, block_m, block_n, block_k, tiling.group_m, tiling.flatten,
        num_warps=tiling.num_warps, num_stages=tiling.num_stages,
    )  # fmt: skip


def _processors(tensor: Tensor) -> int:
    if not tensor.is_cuda:
        return CPU_PROGRAMS
    return torch.cuda.get_device_properties(tensor.device).multi_processor_count


@triton.jit
def _product_kernel(
    left: tl.tensor, right: tl.tensor, a: tl.tensor, out: tl.tensor, M: tl.tensor,
    N: tl.constexpr, K: tl.constexpr, BACKWARD: tl.constexpr, SIGNED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
    FLATTEN: tl.constexpr,
) -> None:  # fmt: skip
    # Descriptors: left is [M, K]; right is [N, K] forward, [K, N] backward; a (read, backward only)
    # and out are [M, N]. What lies outside of a matrix is read as zero.
    programs = tl.num_programs(0)
    num_tiles = tl.cdiv(M, BLOCK_M) * tl.cdiv(N, BLOCK_N)
    # The end of a tile counts for itself, so that a flattened loop may already load the next one.
    done = tl.program_id(0) - programs
    for tile in tl.range(tl.program_id(0), num_tiles, programs, flatten=FLATTEN):
        m, n = _corner(tile, M, N, BLOCK_M, BLOCK_N, GROUP_M)
        acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
        for k in tl.range(0, K, BLOCK_K):
            right_tile = right.load([k, n]) if BACKWARD else right.load([n, k]).T
            acc = tl.dot(left.load([m, k]), right_tile, acc)
        done += programs
        m, n = _corner(done, M, N, BLOCK_M, BLOCK_N, GROUP_M)
        # In halves: buffers for the stores take the room of a stage of operands otherwise.
        HALF: tl.constexpr = BLOCK_N // 2
        lower, upper = tl.split(tl.reshape(acc, (BLOCK_M, 2, HALF)).permute(0, 2, 1))
        _finish(lower, a, out, m, n, BACKWARD, SIGNED)
        _finish(upper, a, out, m, n + HALF, BACKWARD, SIGNED)


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
    acc: tl.tensor, a: tl.tensor, out: tl.tensor, m: tl.tensor, n: tl.tensor,
    BACKWARD: tl.constexpr, SIGNED: tl.constexpr,
) -> None:  # fmt: skip
    if BACKWARD:
        out.store([m, n], (acc * slope(a.load([m, n]))).to(tl.bfloat16))
    else:
        out.store([m, n], activation(acc, SIGNED))


@triton.jit
def activation(h: tl.tensor, SIGNED: tl.constexpr) -> tl.tensor:
    """act(h) in bf16; SIGNED: of the values whose last bit is 0 if h > 0, else 1, the nearest.

    Nearest as bit patterns, which differs from nearest in value only for negative h within 2^-9
    above a power of two. For h <= 0 it is at least the smallest number, 2^-133, and NaN where the
    square is infinite.
    """
    h = h.to(tl.float32)
    leaky = tl.where(h > 0, h, 0.5 * h)
    a = leaky * leaky
    if SIGNED:
        sign = tl.where(h > 0, 0, LAST_BIT)
        # Patterns of one parity are 2 * LAST_BIT apart: add a half of that, cut off, set the bit.
        # NaN has sign, so that the sum cannot run over.
        pattern = a.to(tl.int32, bitcast=True) + (LAST_BIT - sign)
        a = ((pattern & (-2 * LAST_BIT)) | sign).to(tl.float32, bitcast=True)
    return a.to(tl.bfloat16)


@triton.jit
def slope(a: tl.tensor) -> tl.tensor:
    """act'(h) in fp32, from a signed a: as exact as from an h of 8 significant bits."""
    a = a.to(tl.float32)
    negative = (a.to(tl.int32, bitcast=True) & LAST_BIT) != 0
    return tl.where(negative, -1.0, 2.0) * tl.sqrt(a)
