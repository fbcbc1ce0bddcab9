# mypy: disallow-untyped-defs=False
"""`pgolf.kernel.enter_block` in Triton: one kernel forward, one backward.

Passes over memory, in units of the stream [.., D]; "apart" has one fused kernel each for the sum,
the skip and the mix, and leaves sums of gradients to autograd.

| enters with                   | forward | apart | backward | apart |
|-------------------------------|---------|-------|----------|-------|
| x0 (the first block)          | 3       | 3     | 5        | 9     |
| one branch, x kept for a skip | 6       | 7     | 10       | 13    |
| one branch, x itself as skip  | 5       | 9     | 9        | 17    |
| one branch and a skip         | 6       | 10    | 11       | 15    |
| two branches and a skip       | 7       | 11    | 13       | 17    |
| two branches                  | 6       | 8     | 11       | 12    |

Forward reads base, branches, skip and x0, and writes mixed, normed and a kept x. Backward reads the
same (a kept x in the place of base) and the gradients of what forward returned, and writes those of
what it read. It computes x and the mix again, and rounds them as forward did.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from pgolf.kernel.enter_block import Skip, Stream
from pgolf.kernel.fused.rows import (
    BACKWARD_TILE,
    FORWARD_TILE,
    gradient_with_norm,
    load_columns,
    load_tile,
    load_vector,
    num_programs,
    rounded,
    store_sum,
    store_tile,
    store_with_norm,
    tile_at,
    tile_sizes,
)

# So many of the backward programs fit at once, with up to 128 registers a thread; and of those with
# two branches and a skip, with up to 168.
PER_SM, PER_SM_OF_MOST = 4, 3

# Both kernels take the inputs in one order: base, a, b, skip, x0, a_scale, b_scale, weight, gate,
# mix. Any pointer stands for what is not there; that of base is x0 then, the first block's x.


@triton.jit
def _blended(x, scaled, share, GATED: tl.constexpr):
    """x and a skip times its weight; linear in both."""
    return scaled + share * (x - scaled) if GATED else x + scaled


@triton.jit
def _forward(
    base_ptr, a_ptr, b_ptr, skip_ptr, x0_ptr, a_scale_ptr, b_scale_ptr, weight_ptr, gate_ptr,
    mix_ptr, mixed_ptr, normed_ptr, x_ptr, norm_scale, num_rows,
    BRANCHES: tl.constexpr, SKIP: tl.constexpr, OWN: tl.constexpr, GATED: tl.constexpr,
    KEEP: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, D2: tl.constexpr,
):  # fmt: skip
    at, live = tile_at(tl.program_id(0) * ROWS, num_rows, D, ROWS, D2)
    x, x0 = load_tile(base_ptr, at, live), load_tile(x0_ptr, at, live)
    if SKIP and not OWN:
        skip = load_tile(skip_ptr, at, live)
    if BRANCHES > 0:
        x += load_vector(a_scale_ptr, D, D2) * load_tile(a_ptr, at, live)
    if BRANCHES > 1:
        x += load_vector(b_scale_ptr, D, D2) * load_tile(b_ptr, at, live)
    x = rounded(x, base_ptr)
    entered = x
    if SKIP:
        scaled = load_vector(weight_ptr, D, D2) * (x if OWN else skip)
        share = tl.sigmoid(load_vector(gate_ptr, D, D2)) if GATED else 0.0
        entered = rounded(_blended(x, scaled, share, GATED), base_ptr)
    mixed = load_vector(mix_ptr, D, D2) * entered + load_vector(mix_ptr + D, D, D2) * x0
    if KEEP:
        store_tile(x_ptr, x, at, live)
    store_with_norm(mixed_ptr, normed_ptr, mixed, norm_scale, at, live, D)


@triton.jit
def _store_sums(
    sums_ptr, d_x, d_skip, d_x0, dx_a, dx_b, weight_ptr, gate_ptr, mix_ptr,
    BRANCHES: tl.constexpr, SKIP: tl.constexpr, GATED: tl.constexpr,
    D: tl.constexpr, D2: tl.constexpr,
):  # fmt: skip
    """Gradients of mix, mix0, and what there is of a_scale, b_scale, weight and gate.

    What enters the mix is linear in x and skip, and so are all gradients in the sums of d*x and
    d*skip: vectors are multiplied in once, at the end.
    """
    size = D * tl.num_programs(0)
    if SKIP:
        weight, mix = load_vector(weight_ptr, D, D2), load_vector(mix_ptr, D, D2)
        dweight, d_scaled, share = mix * d_skip, weight * d_skip, 0.0
        if GATED:
            share = tl.sigmoid(load_vector(gate_ptr, D, D2))
            dweight *= 1.0 - share
            dgate = mix * (d_x - d_scaled) * share * (1.0 - share)
            store_sum(sums_ptr + (3 + BRANCHES) * size, dgate, D, D2)
        d_x = _blended(d_x, d_scaled, share, GATED)
        store_sum(sums_ptr + (2 + BRANCHES) * size, dweight, D, D2)
    store_sum(sums_ptr, d_x, D, D2)
    store_sum(sums_ptr + size, d_x0, D, D2)
    if BRANCHES > 0:
        store_sum(sums_ptr + 2 * size, dx_a, D, D2)
    if BRANCHES > 1:
        store_sum(sums_ptr + 3 * size, dx_b, D, D2)


@triton.jit
def _backward(
    dmixed_ptr, dnormed_ptr, dagain_ptr, dkept_ptr,
    x_ptr, a_ptr, b_ptr, skip_ptr, x0_ptr, a_scale_ptr, b_scale_ptr, weight_ptr, gate_ptr, mix_ptr,
    dbase_ptr, da_ptr, db_ptr, dskip_ptr, dx0_ptr, sums_ptr, norm_scale, num_rows,
    HAS_DMIXED: tl.constexpr, HAS_DNORMED: tl.constexpr, HAS_DAGAIN: tl.constexpr,
    HAS_DKEPT: tl.constexpr,
    BRANCHES: tl.constexpr, SKIP: tl.constexpr, OWN: tl.constexpr, GATED: tl.constexpr,
    KEEP: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, D2: tl.constexpr,
):  # fmt: skip
    zeros = tl.zeros([ROWS, D2], tl.float32)
    # Sums over rows of d*x, d*skip, ...
    d_x, d_skip, d_x0, dx_a, dx_b = zeros, zeros, zeros, zeros, zeros
    for first in range(tl.program_id(0) * ROWS, num_rows, tl.num_programs(0) * ROWS):
        at, live = tile_at(first, num_rows, D, ROWS, D2)
        # All reads come before the first sum over a row, at which threads wait for each other.
        x, x0, dx0, dkept = load_tile(x_ptr, at, live), load_tile(x0_ptr, at, live), zeros, zeros
        if BRANCHES > 0:
            a = load_tile(a_ptr, at, live)
        if BRANCHES > 1:
            b = load_tile(b_ptr, at, live)
        if SKIP and not OWN:
            skip = load_tile(skip_ptr, at, live)
        if HAS_DAGAIN:
            dx0 = load_tile(dagain_ptr, at, live)
        if HAS_DKEPT:
            dkept = load_tile(dkept_ptr, at, live)

        # As forward did.
        if BRANCHES > 0 and not KEEP:
            x += load_columns(a_scale_ptr, D, ROWS, D2) * a
            if BRANCHES > 1:
                x += load_columns(b_scale_ptr, D, ROWS, D2) * b
            x = rounded(x, x_ptr)
        entered = x
        if SKIP:
            scaled = load_columns(weight_ptr, D, ROWS, D2) * (x if OWN else skip)
            share = tl.sigmoid(load_columns(gate_ptr, D, ROWS, D2)) if GATED else 0.0
            entered = rounded(_blended(x, scaled, share, GATED), x_ptr)
        mix0 = load_columns(mix_ptr + D, D, ROWS, D2)
        mixed = rounded(load_columns(mix_ptr, D, ROWS, D2) * entered + mix0 * x0, x_ptr)

        d = gradient_with_norm(
            dmixed_ptr, dnormed_ptr, mixed, norm_scale, at, live, HAS_DMIXED, HAS_DNORMED, D
        )
        d_x += d * x
        d_x0 += d * x0
        dx0 += mix0 * d
        # Vectors are read again behind a store: they would fill registers up to there otherwise.
        if BRANCHES > 0:
            store_tile(dx0_ptr, dx0, at, live)
        dx = load_columns(mix_ptr, D, ROWS, D2) * d
        if SKIP:
            dskip = load_columns(weight_ptr, D, ROWS, D2) * dx
            if GATED:
                share = tl.sigmoid(load_columns(gate_ptr, D, ROWS, D2))
                dskip *= 1.0 - share
                dx *= share
            if OWN:
                dx += dskip
            else:
                store_tile(dskip_ptr, dskip, at, live)
                d_skip += d * skip
        dx += dkept
        if BRANCHES > 0:
            store_tile(dbase_ptr, dx, at, live)
            store_tile(da_ptr, load_columns(a_scale_ptr, D, ROWS, D2) * dx, at, live)
            dx_a += dx * a
        else:
            store_tile(dx0_ptr, dx0 + dx, at, live)
        if BRANCHES > 1:
            store_tile(db_ptr, load_columns(b_scale_ptr, D, ROWS, D2) * dx, at, live)
            dx_b += dx * b
    _store_sums(
        sums_ptr, d_x, d_x if OWN else d_skip, d_x0, dx_a, dx_b, weight_ptr, gate_ptr, mix_ptr,
        BRANCHES, SKIP, GATED, D, D2,
    )  # fmt: skip


def _pointers(stand_in: Tensor, *tensors: Tensor | None) -> list[Tensor]:
    return [stand_in if tensor is None else tensor for tensor in tensors]


class _EnterBlock(torch.autograd.Function):
    """Takes the kernels' inputs, with None for what is not there."""

    @staticmethod
    def forward(
        ctx: Any, base_BTD: Tensor | None, a_BTD: Tensor | None, b_BTD: Tensor | None,
        skip_BTD: Tensor | None, x0_BTD: Tensor, a_scale_D: Tensor | None,
        b_scale_D: Tensor | None, weight_D: Tensor | None, gate_D: Tensor | None, mix_2D: Tensor,
        norm_scale: float, keep_x: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:  # fmt: skip
        inputs = (a_BTD, b_BTD, skip_BTD, x0_BTD, a_scale_D, b_scale_D, weight_D, gate_D, mix_2D)
        D = x0_BTD.size(-1)
        num_rows, sizes = x0_BTD.numel() // D, tile_sizes(D, FORWARD_TILE)
        mixed_BTD, normed_BTD = torch.empty_like(x0_BTD), torch.empty_like(x0_BTD)
        x_BTD = torch.empty_like(x0_BTD) if keep_x else None
        ctx.norm_scale = norm_scale
        ctx.flags = {
            "BRANCHES": (a_BTD is not None) + (b_BTD is not None),
            "SKIP": weight_D is not None,
            "OWN": skip_BTD is None,
            "GATED": gate_D is not None,
            "KEEP": keep_x,
        }
        _forward[(triton.cdiv(num_rows, sizes["ROWS"]),)](
            *_pointers(x0_BTD, base_BTD, *inputs, mixed_BTD, normed_BTD, x_BTD), norm_scale,
            num_rows, **ctx.flags, **sizes,
        )  # fmt: skip
        ctx.save_for_backward(x_BTD if keep_x else base_BTD, *inputs)
        ctx.set_materialize_grads(False)
        again_BTD = x0_BTD.view_as(x0_BTD)
        if not ctx.needs_input_grad[4]:
            ctx.mark_non_differentiable(again_BTD)
        return mixed_BTD, normed_BTD, again_BTD, x_BTD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        _, a_BTD, b_BTD, skip_BTD, x0_BTD, *vectors, _ = ctx.saved_tensors
        flags, D = ctx.flags, x0_BTD.size(-1)
        num_rows, sizes = x0_BTD.numel() // D, tile_sizes(D, BACKWARD_TILE)
        most = flags["BRANCHES"] == 2 and flags["SKIP"]
        per_sm = PER_SM_OF_MOST if most else PER_SM
        programs = num_programs(x0_BTD.device, num_rows, sizes["ROWS"], per_sm)
        num_sums = 2 + sum(vector_D is not None for vector_D in vectors)
        sums_SDP = torch.empty(num_sums, D, programs, device=x0_BTD.device)
        # With a branch there is a base.
        made = [
            None if tensor is None else torch.empty_like(x0_BTD)
            for tensor in (a_BTD, a_BTD, b_BTD, skip_BTD, x0_BTD)
        ]
        _backward[(programs,)](
            *_pointers(x0_BTD, *(grad if grad is None else grad.contiguous() for grad in grads)),
            *_pointers(x0_BTD, *ctx.saved_tensors, *made), sums_SDP, ctx.norm_scale, num_rows,
            HAS_DMIXED=grads[0] is not None, HAS_DNORMED=grads[1] is not None,
            HAS_DAGAIN=grads[2] is not None, HAS_DKEPT=grads[3] is not None, **flags, **sizes,
        )  # fmt: skip
        sums_SD = sums_SDP.sum(2)
        rest = iter(sums_SD[2:])
        dvectors = [None if vector_D is None else next(rest) for vector_D in vectors]
        return *made, *dvectors, sums_SD[:2], None, None


def enter_block_fused(
    stream: Stream | None,
    x0_BTD: Tensor,
    mix_2D: Tensor,
    norm_scale: float,
    skip: Skip | None = None,
    keep_x: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """See `pgolf.kernel.enter_block.enter_block`; vectors are fp32.

    In fp32 between load and store, but for x, what enters the mix, and mixed: those are rounded,
    as in the eager twin.
    """
    base_BTD, branches, scales = (None, (), ()) if stream is None else stream
    assert len(branches) == len(scales) <= 2
    a_BTD, b_BTD, *_ = (*branches, None, None)
    a_scale_D, b_scale_D, *_ = (*scales, None, None)
    kept_BTD, weight_D, gate_D = (None, None, None) if skip is None else skip
    inputs = (
        base_BTD, a_BTD, b_BTD, kept_BTD, x0_BTD, a_scale_D, b_scale_D, weight_D, gate_D, mix_2D
    )  # fmt: skip
    tensors = (tensor if tensor is None else tensor.contiguous() for tensor in inputs)
    found: tuple[Tensor, Tensor, Tensor, Tensor | None] = _EnterBlock.apply(
        *tensors, norm_scale, keep_x
    )
    return found
