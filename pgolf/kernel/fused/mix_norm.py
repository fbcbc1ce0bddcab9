# mypy: disallow-untyped-defs=False
"""`pgolf.kernel.mix_norm` in Triton: one kernel forward, one backward.

Passes over memory, in units of the stream [.., D]. Forward: reads x and x0, writes mixed and
normed: 4 units; as single operations two products, a sum, norm and scale: 11. Backward: reads the
three gradients, x and x0, writes dx and dx0: 7 units; as single operations 23: scale and norm 5,
the sums of the gradients of mixed and of x0 3 each, 6 for each product.
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
    x_ptr, x0_ptr, mix_ptr, mixed_ptr, normed_ptr, norm_scale, num_rows,
    D: tl.constexpr, ROWS: tl.constexpr, D2: tl.constexpr,
):  # fmt: skip
    at, live = tile_at(tl.program_id(0) * ROWS, num_rows, D, ROWS, D2)
    x, x0 = load_tile(x_ptr, at, live), load_tile(x0_ptr, at, live)
    mixed = load_vector(mix_ptr, D, D2) * x + load_vector(mix_ptr + D, D, D2) * x0
    store_with_norm(mixed_ptr, normed_ptr, mixed, norm_scale, at, live, D)


@triton.jit
def _backward(
    dmixed_ptr, dnormed_ptr, dagain_ptr, x_ptr, x0_ptr, mix_ptr, dx_ptr, dx0_ptr, dmix_ptr,
    norm_scale, num_rows,
    HAS_DMIXED: tl.constexpr, HAS_DNORMED: tl.constexpr, HAS_DAGAIN: tl.constexpr,
    D: tl.constexpr, ROWS: tl.constexpr, D2: tl.constexpr,
):  # fmt: skip
    mix, mix0 = load_vector(mix_ptr, D, D2), load_vector(mix_ptr + D, D, D2)
    dmix, dmix0 = tl.zeros([ROWS, D2], tl.float32), tl.zeros([ROWS, D2], tl.float32)
    for first in range(tl.program_id(0) * ROWS, num_rows, tl.num_programs(0) * ROWS):
        at, live = tile_at(first, num_rows, D, ROWS, D2)
        x, x0 = load_tile(x_ptr, at, live), load_tile(x0_ptr, at, live)
        # Mixed again from what is read anyway, and rounded as the norm saw it.
        mixed = (mix * x + mix0 * x0).to(x_ptr.dtype.element_ty).to(tl.float32)
        d = gradient_with_norm(
            dmixed_ptr, dnormed_ptr, mixed, norm_scale, at, live, HAS_DMIXED, HAS_DNORMED, D
        )
        dx0 = mix0 * d
        if HAS_DAGAIN:
            dx0 += load_tile(dagain_ptr, at, live)
        store_tile(dx_ptr, mix * d, at, live)
        store_tile(dx0_ptr, dx0, at, live)
        dmix += d * x
        dmix0 += d * x0
    store_sum(dmix_ptr, dmix, D, D2)
    store_sum(dmix_ptr + D * tl.num_programs(0), dmix0, D, D2)


class _MixNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_BTD: Tensor, x0_BTD: Tensor, mix_2D: Tensor, norm_scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        D = x_BTD.size(-1)
        num_rows, sizes = x_BTD.numel() // D, tile_sizes(D, FORWARD_TILE)
        mixed_BTD, normed_BTD = torch.empty_like(x_BTD), torch.empty_like(x_BTD)
        _forward[(triton.cdiv(num_rows, sizes["ROWS"]),)](
            x_BTD, x0_BTD, mix_2D, mixed_BTD, normed_BTD, norm_scale, num_rows, **sizes
        )
        ctx.save_for_backward(x_BTD, x0_BTD, mix_2D)
        ctx.norm_scale = norm_scale
        ctx.set_materialize_grads(False)
        again_BTD = x0_BTD.view_as(x0_BTD)
        if not ctx.needs_input_grad[1]:
            ctx.mark_non_differentiable(again_BTD)
        return mixed_BTD, normed_BTD, again_BTD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if grads[0] is None and grads[1] is None:
            return None, grads[2], None, None
        x_BTD, x0_BTD, mix_2D = ctx.saved_tensors
        D = x_BTD.size(-1)
        num_rows, sizes = x_BTD.numel() // D, tile_sizes(D, BACKWARD_TILE)
        programs = num_programs(x_BTD.device, num_rows, sizes["ROWS"])
        dx_BTD, dx0_BTD = torch.empty_like(x_BTD), torch.empty_like(x_BTD)
        dmix_2DP = torch.empty(2, D, programs, device=x_BTD.device)
        # Any pointer stands for a gradient that is not there.
        _backward[(programs,)](
            *(x_BTD if grad is None else grad.contiguous() for grad in grads),
            x_BTD, x0_BTD, mix_2D, dx_BTD, dx0_BTD, dmix_2DP, ctx.norm_scale, num_rows,
            HAS_DMIXED=grads[0] is not None, HAS_DNORMED=grads[1] is not None,
            HAS_DAGAIN=grads[2] is not None, **sizes,
        )  # fmt: skip
        dmix_2D = dmix_2DP.sum(2).to(mix_2D.dtype) if ctx.needs_input_grad[2] else None
        return dx_BTD, dx0_BTD, dmix_2D, None


def mix_norm_fused(
    x_BTD: Tensor, x0_BTD: Tensor, mix_2D: Tensor, norm_scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """See `pgolf.kernel.mix_norm.mix_norm`; in fp32 between load and store, but for mixed.

    Mixed is rounded before its norm is taken, as in the eager twin.
    """
    return _MixNorm.apply(x_BTD.contiguous(), x0_BTD.contiguous(), mix_2D.contiguous(), norm_scale)
