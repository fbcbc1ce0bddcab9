# mypy: disallow-untyped-defs=False
"""`pgolf.kernel.qk_prep` in Triton: one kernel forward, one backward.

Passes over memory, in units of the q part of qkv (k and v are half a unit each at 8/4 heads).
Forward: reads q and k, writes q and k: 3 units; as single operations in bf16: norm 2, rotary with
its split and cat about 6, gain 2, times 1.5 for k. Backward: reads dq, dk, both dv and the saved q
and k, writes dqkv: 6 units; as single operations more than 15, the sum of both dv among them.

A program works on one head of a block of tokens, so that q, k and v differ by a branch that all its
threads take; it writes one number for the gradient of the gain, and torch adds those. Heads are the
fastest changing program index: the heads of a token, which lie next to each other, are read at
about the same time.
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
from pgolf.kernel.fused.rows import BACKWARD_TILE, EPS, FORWARD_TILE


@triton.jit
def _norm_and_rotate(
    x_ptr, y_ptr, live, cos, sin, factor,
    K: tl.constexpr, HALF: tl.constexpr, K2: tl.constexpr, HALF2: tl.constexpr,
):  # fmt: skip
    # The rotated dimensions are loaded once more, from the cache, as tiles of their own: pairs then
    # sit in the same thread, and every load stays a vector.
    x = load_tile(x_ptr, live, K, K2)
    x1 = load_tile(x_ptr, live, HALF, HALF2)
    x2 = load_tile(x_ptr + HALF, live, HALF, HALF2)
    scale = (tl.rsqrt(tl.sum(x * x, 1) / K + EPS) * factor)[:, None]
    store_tile(y_ptr, x * scale, live, 2 * HALF, K, K2)
    store_tile(y_ptr, (x1 * cos + x2 * sin) * scale, live, 0, HALF, HALF2)
    store_tile(y_ptr + HALF, (x2 * cos - x1 * sin) * scale, live, 0, HALF, HALF2)


@triton.jit
def _forward(
    qkv_ptr, gain_ptr, cos_ptr, sin_ptr, q_ptr, k_ptr, num_tokens, seq_len,
    H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, HALF: tl.constexpr,
    ROWS: tl.constexpr, K2: tl.constexpr, HALF2: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(0) % (H + G)
    token = (tl.program_id(0) // (H + G)) * ROWS + tl.arange(0, ROWS)
    live = token < num_tokens
    cos = load_tile(cos_ptr + (token % seq_len) * HALF, live, HALF, HALF2)
    sin = load_tile(sin_ptr + (token % seq_len) * HALF, live, HALF, HALF2)
    token = token.to(tl.int64)
    x_ptr = qkv_ptr + (token * (H + 2 * G) + head) * K
    if head < H:
        y_ptr = q_ptr + (token * H + head) * K
        gain = tl.load(gain_ptr + head).to(tl.float32)
        _norm_and_rotate(x_ptr, y_ptr, live, cos, sin, gain, K, HALF, K2, HALF2)
    else:
        y_ptr = k_ptr + (token * G + head - H) * K
        _norm_and_rotate(x_ptr, y_ptr, live, cos, sin, 1.0, K, HALF, K2, HALF2)


@triton.jit
def _rotate_and_norm_backward(
    dy_ptr, x_ptr, dx_ptr, live, cos, sin, factor,
    K: tl.constexpr, HALF: tl.constexpr, K2: tl.constexpr, HALF2: tl.constexpr,
):  # fmt: skip
    """Writes dx; returns the gradient of the factor, summed over the tile."""
    x, dy = load_tile(x_ptr, live, K, K2), load_tile(dy_ptr, live, K, K2)
    rstd = tl.rsqrt(tl.sum(x * x, 1) / K + EPS)
    n = x * rstd[:, None]
    n1 = load_tile(x_ptr, live, HALF, HALF2) * rstd[:, None]
    n2 = load_tile(x_ptr + HALF, live, HALF, HALF2) * rstd[:, None]
    dy1 = load_tile(dy_ptr, live, HALF, HALF2)
    dy2 = load_tile(dy_ptr + HALF, live, HALF, HALF2)
    dn1, dn2 = dy1 * cos - dy2 * sin, dy1 * sin + dy2 * cos
    # <dn, n>, which the norm needs, is also <dy, y / factor>, the gradient of the factor.
    passes = (tl.arange(0, K2) >= 2 * HALF)[None, :]
    along = tl.sum(tl.where(passes, dy * n, 0.0), 1) + tl.sum(dn1 * n1 + dn2 * n2, 1)
    mean, scale = (along / K)[:, None], (rstd * factor)[:, None]
    store_tile(dx_ptr, (dy - n * mean) * scale, live, 2 * HALF, K, K2)
    store_tile(dx_ptr, (dn1 - n1 * mean) * scale, live, 0, HALF, HALF2)
    store_tile(dx_ptr + HALF, (dn2 - n2 * mean) * scale, live, 0, HALF, HALF2)
    return tl.sum(along, 0)


@triton.jit
def _backward(
    dq_ptr, dq_batch, dq_time, dq_head, dk_ptr, dk_batch, dk_time, dk_head,
    dv_ptr, dv_batch, dv_time, dv_head, dw_ptr, dw_batch, dw_time, dw_head,
    qkv_ptr, gain_ptr, cos_ptr, sin_ptr, dqkv_ptr, dgain_ptr, num_tokens, seq_len,
    TWO_DV: tl.constexpr, H: tl.constexpr, G: tl.constexpr, K: tl.constexpr, HALF: tl.constexpr,
    ROWS: tl.constexpr, K2: tl.constexpr, HALF2: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(0) % (H + 2 * G)
    block = tl.program_id(0) // (H + 2 * G)
    token = block * ROWS + tl.arange(0, ROWS)
    live = token < num_tokens
    at = (token.to(tl.int64) * (H + 2 * G) + head) * K
    if head < H + G:
        cos = load_tile(cos_ptr + (token % seq_len) * HALF, live, HALF, HALF2)
        sin = load_tile(sin_ptr + (token % seq_len) * HALF, live, HALF, HALF2)
        if head < H:
            dy_ptr = dq_ptr + head * dq_head + token_offset(token, seq_len, dq_batch, dq_time)
            gain = tl.load(gain_ptr + head).to(tl.float32)
            dgain = _rotate_and_norm_backward(
                dy_ptr, qkv_ptr + at, dqkv_ptr + at, live, cos, sin, gain, K, HALF, K2, HALF2
            )
            tl.store(dgain_ptr + block * H + head, dgain)
        else:
            dy_ptr = dk_ptr + (head - H) * dk_head
            dy_ptr += token_offset(token, seq_len, dk_batch, dk_time)
            _rotate_and_norm_backward(
                dy_ptr, qkv_ptr + at, dqkv_ptr + at, live, cos, sin, 1.0, K, HALF, K2, HALF2
            )
    else:
        value = head - H - G
        offset = token_offset(token, seq_len, dv_batch, dv_time)
        dv = load_tile(dv_ptr + value * dv_head + offset, live, K, K2)
        if TWO_DV:
            offset = token_offset(token, seq_len, dw_batch, dw_time)
            dv += load_tile(dw_ptr + value * dw_head + offset, live, K, K2)
        store_tile(dqkv_ptr + at, dv, live, 0, K, K2)


def _sizes(num_heads: int, num_kv_heads: int, head_dim: int, half: int) -> dict[str, Any]:
    return {
        "H": num_heads,
        "G": num_kv_heads,
        "K": head_dim,
        "HALF": half,
        "K2": triton.next_power_of_2(head_dim),
        "HALF2": triton.next_power_of_2(half),
    }


class _PrepareQKV(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, qkv_BTC: Tensor, gain_H: Tensor, cos_Tr: Tensor, sin_Tr: Tensor, H: int, G: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        B, T, C = qkv_BTC.shape
        K = C // (H + 2 * G)
        q_BTHK, k_BTGK = qkv_BTC.new_empty(B, T, H, K), qkv_BTC.new_empty(B, T, G, K)
        ctx.sizes = _sizes(H, G, K, cos_Tr.size(-1))
        rows = rows_for(FORWARD_TILE, ctx.sizes["K2"])
        grid = (triton.cdiv(B * T, rows) * (H + G),)
        _forward[grid](
            qkv_BTC, gain_H, cos_Tr, sin_Tr, q_BTHK, k_BTGK, B * T, T, **ctx.sizes, ROWS=rows
        )
        ctx.save_for_backward(qkv_BTC, gain_H, cos_Tr, sin_Tr)
        ctx.set_materialize_grads(False)
        v_BTGK = qkv_BTC.view(B, T, H + 2 * G, K)[:, :, H + G :]
        return q_BTHK, k_BTGK, v_BTGK, v_BTGK.view_as(v_BTGK)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        qkv_BTC, gain_H, cos_Tr, sin_Tr = ctx.saved_tensors
        B, T, _ = qkv_BTC.shape
        H, G, K = ctx.sizes["H"], ctx.sizes["G"], ctx.sizes["K"]
        # One row of zeros stands for a gradient that is not there, without being a tensor of it.
        zeros = qkv_BTC.new_zeros(K)
        dq_BTHK, dk_BTGK = (
            zeros.expand(B, T, heads, K) if grad is None else with_contiguous_heads(grad)
            for grad, heads in zip(grads[:2], (H, G), strict=True)
        )
        dvs = [with_contiguous_heads(grad) for grad in grads[2:] if grad is not None]
        two = len(dvs) == 2
        dvs += [zeros.expand(B, T, G, K)] * (2 - len(dvs))

        rows = rows_for(BACKWARD_TILE, ctx.sizes["K2"])
        blocks = triton.cdiv(B * T, rows)
        dqkv_BTC = torch.empty_like(qkv_BTC)
        dgain_NH = torch.empty(blocks, H, device=qkv_BTC.device)
        strided = [
            argument for grad in (dq_BTHK, dk_BTGK, *dvs) for argument in (grad, *grad.stride()[:3])
        ]
        _backward[(blocks * (H + 2 * G),)](
            *strided, qkv_BTC, gain_H, cos_Tr, sin_Tr, dqkv_BTC, dgain_NH, B * T, T,
            **ctx.sizes, TWO_DV=two, ROWS=rows,
        )  # fmt: skip
        needs_dgain = ctx.needs_input_grad[1] and grads[0] is not None
        dgain_H = dgain_NH.sum(0).to(gain_H.dtype) if needs_dgain else None
        return dqkv_BTC, dgain_H, None, None, None, None


def prepare_qkv_fused(
    qkv_BTC: Tensor,
    gain_H: Tensor,
    cos_1T1r: Tensor,
    sin_1T1r: Tensor,
    num_heads: int,
    num_kv_heads: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `pgolf.kernel.qk_prep.prepare_qkv`; everything between load and store is in fp32."""
    half = cos_1T1r.size(-1)
    cos_Tr, sin_Tr = cos_1T1r.reshape(-1, half), sin_1T1r.reshape(-1, half)
    return _PrepareQKV.apply(qkv_BTC, gain_H, cos_Tr, sin_Tr, num_heads, num_kv_heads)
