# mypy: disallow-untyped-defs=False
"""`pgolf.kernel.add_norm` in Triton: one kernel forward, one backward.

Passes over memory, in units of the stream [.., D]. Forward: reads x and branch, writes sum and
normed: 4 units; as single operations product, sum, norm and scale: 9. Backward: reads both
gradients, sum and branch, writes dx and dbranch: 6 units; as single operations 14: scale and norm
5, the sum of the gradients 3, the product 6.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from pgolf.kernel.fused.rows import (
    BACKWARD_TILE,
    FORWARD_TILE,
    gradient_with_norm,
    load_tile,
    load_vector,
    num_programs,
    store_sum,
    store_tile,
    store_with_norm,
    tile_at,
    tile_sizes,
)


@triton.jit
def _forward(
    x_ptr, branch_ptr, scale_ptr, sum_ptr, normed_ptr, norm_scale, num_rows,
    D: tl.constexpr, ROWS: tl.constexpr, D2: tl.constexpr,
):  # fmt: skip
    at, live = tile_at(tl.program_id(0) * ROWS, num_rows, D, ROWS, D2)
    x, branch = load_tile(x_ptr, at, live), load_tile(branch_ptr, at, live)
    total = x + load_vector(scale_ptr, D, D2) * branch
    store_with_norm(sum_ptr, normed_ptr, total, norm_scale, at, live, D)


@triton.jit
def _backward(
    dsum_ptr, dnormed_ptr, sum_ptr, branch_ptr, scale_ptr, dx_ptr, dbranch_ptr, dscale_ptr,
    norm_scale, num_rows, HAS_DSUM: tl.constexpr, HAS_DNORMED: tl.constexpr,
    D: tl.constexpr, ROWS: tl.constexpr, D2: tl.constexpr,
):  # fmt: skip
    scale = load_vector(scale_ptr, D, D2)
    dscale = tl.zeros([ROWS, D2], tl.float32)
    for first in range(tl.program_id(0) * ROWS, num_rows, tl.num_programs(0) * ROWS):
        at, live = tile_at(first, num_rows, D, ROWS, D2)
        total, branch = load_tile(sum_ptr, at, live), load_tile(branch_ptr, at, live)
        d = gradient_with_norm(
            dsum_ptr, dnormed_ptr, total, norm_scale, at, live, HAS_DSUM, HAS_DNORMED, D
        )
        store_tile(dx_ptr, d, at, live)
        store_tile(dbranch_ptr, scale * d, at, live)
        dscale += d * branch
    store_sum(dscale_ptr, dscale, D, D2)


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_BTD: Tensor, branch_BTD: Tensor, scale_D: Tensor, norm_scale: float
    ) -> tuple[Tensor, Tensor]:
        D = x_BTD.size(-1)
        num_rows, sizes = x_BTD.numel() // D, tile_sizes(D, FORWARD_TILE)
        sum_BTD, normed_BTD = torch.empty_like(x_BTD), torch.empty_like(x_BTD)
        _forward[(triton.cdiv(num_rows, sizes["ROWS"]),)](
            x_BTD, branch_BTD, scale_D, sum_BTD, normed_BTD, norm_scale, num_rows, **sizes
        )
        ctx.save_for_backward(sum_BTD, branch_BTD, scale_D)
        ctx.norm_scale = norm_scale
        ctx.set_materialize_grads(False)
        return sum_BTD, normed_BTD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        sum_BTD, branch_BTD, scale_D = ctx.saved_tensors
        D = sum_BTD.size(-1)
        num_rows, sizes = sum_BTD.numel() // D, tile_sizes(D, BACKWARD_TILE)
        programs = num_programs(sum_BTD.device, num_rows, sizes["ROWS"])
        dx_BTD, dbranch_BTD = torch.empty_like(sum_BTD), torch.empty_like(sum_BTD)
        dscale_DP = torch.empty(D, programs, device=sum_BTD.device)
        # Any pointer stands for a gradient that is not there.
        _backward[(programs,)](
            *(sum_BTD if grad is None else grad.contiguous() for grad in grads),
            sum_BTD, branch_BTD, scale_D, dx_BTD, dbranch_BTD, dscale_DP, ctx.norm_scale, num_rows,
            HAS_DSUM=grads[0] is not None, HAS_DNORMED=grads[1] is not None, **sizes,
        )  # fmt: skip
        dscale_D = dscale_DP.sum(1).to(scale_D.dtype) if ctx.needs_input_grad[2] else None
        return dx_BTD, dbranch_BTD, dscale_D, None


def add_norm_fused(
    x_BTD: Tensor, branch_BTD: Tensor, scale_D: Tensor, norm_scale: float
) -> tuple[Tensor, Tensor]:
    """See `pgolf.kernel.add_norm.add_norm`; in fp32 between load and store, but for the sum.

    The sum is rounded before its norm is taken, as in the eager twin.
    """
    return _AddNorm.apply(
        x_BTD.contiguous(), branch_BTD.contiguous(), scale_D.contiguous(), norm_scale
    )
