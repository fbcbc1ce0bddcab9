# mypy: disallow-untyped-defs=False
"""`pgolf.kernel.blend_skip` in Triton: one kernel forward, one backward.

Passes over memory, in units of the stream [.., D]. Forward: reads x and skip, writes the blend:
3 units; as single operations 5. Backward: reads the gradient, x and skip, writes dx and dskip: 5
units; as single operations 17, most of them for the gradients of gate and weight.

Without a gate this is `scaled_add` of one branch.
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
    load_tile,
    load_vector,
    num_programs,
    store_sum,
    store_tile,
    tile_at,
    tile_sizes,
)
from pgolf.kernel.fused.scaled_add import scaled_add_fused


@triton.jit
def _forward(
    x_ptr, skip_ptr, weight_ptr, gate_ptr, out_ptr, num_rows,
    D: tl.constexpr, ROWS: tl.constexpr, D2: tl.constexpr,
):  # fmt: skip
    at, live = tile_at(tl.program_id(0) * ROWS, num_rows, D, ROWS, D2)
    scaled = load_vector(weight_ptr, D, D2) * load_tile(skip_ptr, at, live)
    share = tl.sigmoid(load_vector(gate_ptr, D, D2))
    store_tile(out_ptr, scaled + share * (load_tile(x_ptr, at, live) - scaled), at, live)


@triton.jit
def _backward(
    d_ptr, x_ptr, skip_ptr, weight_ptr, gate_ptr, dx_ptr, dskip_ptr, dweight_ptr, dgate_ptr,
    num_rows, D: tl.constexpr, ROWS: tl.constexpr, D2: tl.constexpr,
):  # fmt: skip
    weight, share = load_vector(weight_ptr, D, D2), tl.sigmoid(load_vector(gate_ptr, D, D2))
    dweight, dshare = tl.zeros([ROWS, D2], tl.float32), tl.zeros([ROWS, D2], tl.float32)
    for first in range(tl.program_id(0) * ROWS, num_rows, tl.num_programs(0) * ROWS):
        at, live = tile_at(first, num_rows, D, ROWS, D2)
        d, x, skip = (
            load_tile(d_ptr, at, live),
            load_tile(x_ptr, at, live),
            load_tile(skip_ptr, at, live),
        )
        store_tile(dx_ptr, share * d, at, live)
        store_tile(dskip_ptr, weight * (1.0 - share) * d, at, live)
        dweight += d * skip
        dshare += d * (x - weight * skip)
    # What is the same for all rows is multiplied in at the end.
    store_sum(dweight_ptr, dweight * (1.0 - share), D, D2)
    store_sum(dgate_ptr, dshare * share * (1.0 - share), D, D2)


class _BlendSkip(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_BTD: Tensor, skip_BTD: Tensor, weight_D: Tensor, gate_D: Tensor
    ) -> Tensor:
        D = x_BTD.size(-1)
        num_rows, sizes = x_BTD.numel() // D, tile_sizes(D, FORWARD_TILE)
        out_BTD = torch.empty_like(x_BTD)
        _forward[(triton.cdiv(num_rows, sizes["ROWS"]),)](
            x_BTD, skip_BTD, weight_D, gate_D, out_BTD, num_rows, **sizes
        )
        ctx.save_for_backward(x_BTD, skip_BTD, weight_D, gate_D)
        return out_BTD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout_BTD: Tensor) -> tuple[Tensor | None, ...]:
        x_BTD, skip_BTD, weight_D, gate_D = ctx.saved_tensors
        D = x_BTD.size(-1)
        num_rows, sizes = x_BTD.numel() // D, tile_sizes(D, BACKWARD_TILE)
        programs = num_programs(x_BTD.device, num_rows, sizes["ROWS"])
        dx_BTD, dskip_BTD = torch.empty_like(x_BTD), torch.empty_like(x_BTD)
        dweight_DP, dgate_DP = (torch.empty(D, programs, device=x_BTD.device) for _ in range(2))
        _backward[(programs,)](
            dout_BTD.contiguous(), x_BTD, skip_BTD, weight_D, gate_D,
            dx_BTD, dskip_BTD, dweight_DP, dgate_DP, num_rows, **sizes,
        )  # fmt: skip
        dweight_D = dweight_DP.sum(1).to(weight_D.dtype) if ctx.needs_input_grad[2] else None
        dgate_D = dgate_DP.sum(1).to(gate_D.dtype) if ctx.needs_input_grad[3] else None
        return dx_BTD, dskip_BTD, dweight_D, dgate_D


def blend_skip_fused(
    x_BTD: Tensor, skip_BTD: Tensor, weight_D: Tensor, gate_D: Tensor | None
) -> Tensor:
    """See `pgolf.kernel.blend_skip.blend_skip`; everything between load and store is in fp32."""
    if gate_D is None:
        return scaled_add_fused(x_BTD, [skip_BTD], [weight_D])
    out_BTD: Tensor = _BlendSkip.apply(
        x_BTD.contiguous(), skip_BTD.contiguous(), weight_D.contiguous(), gate_D.contiguous()
    )
    return out_BTD
