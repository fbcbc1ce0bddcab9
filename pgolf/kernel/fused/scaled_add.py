# mypy: disallow-untyped-defs=False
"""`pgolf.kernel.scaled_add` in Triton: one kernel forward, one backward.

Passes over memory, in units of the stream [.., D], for two branches. Forward: reads x and both,
writes the sum: 4 units; as single operations two products and two sums: 10. Backward: reads the
gradient and both branches, writes the gradients of both: 5 units; as single operations 12. The
gradient of x is the gradient of the sum, the same tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from pgolf.kernel.fused.rows import (
    BACKWARD_TILE,
    FORWARD_TILE,
    load_tile,
    load_vector,
    num_programs,
    store_sum,
    store_tile,
    tile_at,
    tile_sizes,
)


@triton.jit
def _forward(
    x_ptr, a_ptr, b_ptr, a_scale_ptr, b_scale_ptr, out_ptr, num_rows,
    TWO: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, D2: tl.constexpr,
):  # fmt: skip
    at, live = tile_at(tl.program_id(0) * ROWS, num_rows, D, ROWS, D2)
    out = load_tile(x_ptr, at, live) + load_vector(a_scale_ptr, D, D2) * load_tile(a_ptr, at, live)
    if TWO:
        out += load_vector(b_scale_ptr, D, D2) * load_tile(b_ptr, at, live)
    store_tile(out_ptr, out, at, live)


@triton.jit
def _backward(
    d_ptr, a_ptr, b_ptr, a_scale_ptr, b_scale_ptr, da_ptr, db_ptr, da_scale_ptr, db_scale_ptr,
    num_rows, TWO: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, D2: tl.constexpr,
):  # fmt: skip
    a_scale, b_scale = load_vector(a_scale_ptr, D, D2), load_vector(b_scale_ptr, D, D2)
    da_scale, db_scale = tl.zeros([ROWS, D2], tl.float32), tl.zeros([ROWS, D2], tl.float32)
    for first in range(tl.program_id(0) * ROWS, num_rows, tl.num_programs(0) * ROWS):
        at, live = tile_at(first, num_rows, D, ROWS, D2)
        d = load_tile(d_ptr, at, live)
        da_scale += d * load_tile(a_ptr, at, live)
        store_tile(da_ptr, a_scale * d, at, live)
        if TWO:
            db_scale += d * load_tile(b_ptr, at, live)
            store_tile(db_ptr, b_scale * d, at, live)
    store_sum(da_scale_ptr, da_scale, D, D2)
    if TWO:
        store_sum(db_scale_ptr, db_scale, D, D2)


class _ScaledAdd(torch.autograd.Function):
    """Takes x, then one or two branches, then as many scales.

    Where there is one, the kernels get it in the place of the second too, and leave that alone.
    """

    @staticmethod
    def forward(ctx: Any, x_BTD: Tensor, *branches_and_scales: Tensor) -> Tensor:
        half, D = len(branches_and_scales) // 2, x_BTD.size(-1)
        branches, scales = branches_and_scales[:half], branches_and_scales[half:]
        num_rows, sizes = x_BTD.numel() // D, tile_sizes(D, FORWARD_TILE)
        out_BTD = torch.empty_like(x_BTD)
        _forward[(triton.cdiv(num_rows, sizes["ROWS"]),)](
            x_BTD, branches[0], branches[-1], scales[0], scales[-1], out_BTD, num_rows,
            TWO=half == 2, **sizes,
        )  # fmt: skip
        ctx.save_for_backward(*branches_and_scales)
        return out_BTD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout_BTD: Tensor) -> tuple[Tensor | None, ...]:
        half, D = len(ctx.saved_tensors) // 2, dout_BTD.size(-1)
        if not any(ctx.needs_input_grad[1:]):
            return dout_BTD, *([None] * 2 * half)
        branches, scales = ctx.saved_tensors[:half], ctx.saved_tensors[half:]
        num_rows, sizes = dout_BTD.numel() // D, tile_sizes(D, BACKWARD_TILE)
        programs = num_programs(dout_BTD.device, num_rows, sizes["ROWS"])
        dbranches = [torch.empty_like(branch_BTD) for branch_BTD in branches]
        partials = [torch.empty(D, programs, device=dout_BTD.device) for _ in scales]
        _backward[(programs,)](
            dout_BTD.contiguous(), branches[0], branches[-1], scales[0], scales[-1],
            dbranches[0], dbranches[-1], partials[0], partials[-1], num_rows,
            TWO=half == 2, **sizes,
        )  # fmt: skip
        dscales = [
            partial_DP.sum(1).to(scale_D.dtype) if needed else None
            for partial_DP, scale_D, needed in zip(
                partials, scales, ctx.needs_input_grad[1 + half :], strict=True
            )
        ]
        return dout_BTD, *dbranches, *dscales


def scaled_add_fused(x_BTD: Tensor, branches: Sequence[Tensor], scales: Sequence[Tensor]) -> Tensor:
    """See `pgolf.kernel.scaled_add.scaled_add`; everything between load and store is in fp32."""
    assert len(branches) == len(scales) and len(branches) in (1, 2)
    out_BTD: Tensor = _ScaledAdd.apply(
        x_BTD.contiguous(), *(tensor.contiguous() for tensor in (*branches, *scales))
    )
    return out_BTD
