# mypy: disallow-untyped-defs=False
"""`pgolf.kernel.xsa` in Triton: one kernel forward, one backward.

Passes over memory, in units of y (v is half a unit at 8/4 heads). Forward: reads y and v, writes y:
2.5 units; as single operations the norm of v, two products, a sum and a difference: about 8.
Backward: reads dy, y and v, writes dy and dv: 4 units; as single operations more than 15.

A row of a tile is one value of one token; the program goes through the g query heads that the
value serves, so that dv is complete without atomics.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from pgolf.kernel.fused.heads import (
    load_tile,
    rows_for,
    store_tile,
    token_offset,
    with_contiguous_heads,
)
from pgolf.kernel.fused.rows import BACKWARD_TILE, FORWARD_TILE

# Smallest norm that F.normalize divides by.
SMALLEST = tl.constexpr(1e-12)


@triton.jit
def _forward(
    y_ptr, y_batch, y_time, y_head, v_ptr, v_batch, v_time, v_head, out_ptr, num_values, seq_len,
    G: tl.constexpr, GROUP: tl.constexpr, K: tl.constexpr,
    ROWS: tl.constexpr, K2: tl.constexpr,
):  # fmt: skip
    value = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    live = value < num_values
    token, head = value // G, value % G
    v = load_tile(
        v_ptr + token_offset(token, seq_len, v_batch, v_time) + head * v_head, live, K, K2
    )
    n = v / tl.maximum(tl.sqrt(tl.sum(v * v, 1)), SMALLEST)[:, None]
    y_ptr += token_offset(token, seq_len, y_batch, y_time) + head * GROUP * y_head
    out_ptr += value.to(tl.int64) * GROUP * K
    for i in tl.static_range(GROUP):
        y = load_tile(y_ptr + i * y_head, live, K, K2)
        along = tl.sum(y * n, 1)[:, None]
        store_tile(out_ptr + i * K, y - along * n, live, 0, K, K2)


@triton.jit
def _backward(
    dout_ptr, dout_batch, dout_time, dout_head, y_ptr, y_batch, y_time, y_head,
    v_ptr, v_batch, v_time, v_head, dy_ptr, dv_ptr, num_values, seq_len,
    G: tl.constexpr, GROUP: tl.constexpr, K: tl.constexpr,
    ROWS: tl.constexpr, K2: tl.constexpr,
):  # fmt: skip
    value = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    live = value < num_values
    token, head = value // G, value % G
    v = load_tile(
        v_ptr + token_offset(token, seq_len, v_batch, v_time) + head * v_head, live, K, K2
    )
    norm = tl.sqrt(tl.sum(v * v, 1))
    inverse = 1.0 / tl.maximum(norm, SMALLEST)
    n = v * inverse[:, None]
    y_ptr += token_offset(token, seq_len, y_batch, y_time) + head * GROUP * y_head
    dout_ptr += token_offset(token, seq_len, dout_batch, dout_time) + head * GROUP * dout_head
    dy_ptr += value.to(tl.int64) * GROUP * K
    dn = tl.zeros([ROWS, K2], tl.float32)
    for i in tl.static_range(GROUP):
        y = load_tile(y_ptr + i * y_head, live, K, K2)
        dout = load_tile(dout_ptr + i * dout_head, live, K, K2)
        y_along, dout_along = tl.sum(y * n, 1)[:, None], tl.sum(dout * n, 1)[:, None]
        store_tile(dy_ptr + i * K, dout - dout_along * n, live, 0, K, K2)
        dn -= y_along * dout + dout_along * y
    # Below the smallest norm, n is v times a constant.
    radial = tl.where(norm >= SMALLEST, tl.sum(dn * n, 1), 0.0)
    dv = (dn - radial[:, None] * n) * inverse[:, None]
    store_tile(dv_ptr + value.to(tl.int64) * K, dv, live, 0, K, K2)


def _sizes(y_BTHK: Tensor, v_BTGK: Tensor, tile: int) -> dict[str, Any]:
    H, K = y_BTHK.shape[2:]
    G, width = v_BTGK.size(2), triton.next_power_of_2(K)
    return {
        "G": G,
        "GROUP": H // G,
        "K": K,
        "ROWS": rows_for(tile, width),
        "K2": width,
    }


class _ExcludeOwnValue(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y_BTHK: Tensor, v_BTGK: Tensor) -> Tensor:
        out_BTHK = torch.empty_like(y_BTHK, memory_format=torch.contiguous_format)
        sizes = _sizes(y_BTHK, v_BTGK, FORWARD_TILE)
        B, T, G = v_BTGK.shape[:3]
        _forward[(triton.cdiv(B * T * G, sizes["ROWS"]),)](
            y_BTHK, *y_BTHK.stride()[:3], v_BTGK, *v_BTGK.stride()[:3], out_BTHK, B * T * G, T,
            **sizes,
        )  # fmt: skip
        ctx.save_for_backward(y_BTHK, v_BTGK)
        return out_BTHK

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout_BTHK: Tensor) -> tuple[Tensor, Tensor]:
        y_BTHK, v_BTGK = ctx.saved_tensors
        dout_BTHK = with_contiguous_heads(dout_BTHK)
        dy_BTHK, dv_BTGK = (
            torch.empty_like(x, memory_format=torch.contiguous_format) for x in (y_BTHK, v_BTGK)
        )
        sizes = _sizes(y_BTHK, v_BTGK, BACKWARD_TILE)
        B, T, G = v_BTGK.shape[:3]
        _backward[(triton.cdiv(B * T * G, sizes["ROWS"]),)](
            dout_BTHK, *dout_BTHK.stride()[:3], y_BTHK, *y_BTHK.stride()[:3],
            v_BTGK, *v_BTGK.stride()[:3], dy_BTHK, dv_BTGK, B * T * G, T, **sizes,
        )  # fmt: skip
        return dy_BTHK, dv_BTGK


def exclude_own_value_fused(y_BTHK: Tensor, v_BTGK: Tensor) -> Tensor:
    """See `pgolf.kernel.xsa.exclude_own_value`; everything between load and store is in fp32."""
    out_BTHK: Tensor = _ExcludeOwnValue.apply(
        with_contiguous_heads(y_BTHK), with_contiguous_heads(v_BTGK)
    )
    return out_BTHK
