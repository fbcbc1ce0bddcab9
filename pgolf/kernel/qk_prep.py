"""What attention gets: normed and rotated queries and keys with their gain, and values.

Legend: B batch, T time, H query heads, G key-value heads, K head_dim, r rotated pairs of a head,
C = (H + 2G) K, the width of the stacked product.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pgolf.kernel.choice import use_fused
from pgolf.kernel.norm import rms_norm


def prepare_qkv(
    qkv_BTC: Tensor,
    gain_H: Tensor,
    cos_1T1r: Tensor,
    sin_1T1r: Tensor,
    num_heads: int,
    num_kv_heads: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Split a product with the stacked weights [q; k; v] into the inputs of attention.

    q and k: RMS norm over K, then rotary on the first 2r dimensions (RoFormer, arXiv 2104.09864);
    q is multiplied by its head's gain after that. v passes.

    Args:
        qkv_BTC: contiguous; q of all heads, then k, then v.
        gain_H: one factor a query head.
        cos_1T1r, sin_1T1r: of `pgolf.model.rotary.rotary_tables`; they get no gradient.
        num_heads, num_kv_heads: H and G.

    Returns:
        q [B, T, H, K], k [B, T, G, K], and v [B, T, G, K] twice, all in qkv's dtype. Both v are
        views of qkv: who reads v in two places takes one for each, so that the fused backward adds
        the two gradients while it writes them.
    """
    if use_fused(qkv_BTC):
        from pgolf.kernel.fused.qk_prep import prepare_qkv_fused

        return prepare_qkv_fused(qkv_BTC, gain_H, cos_1T1r, sin_1T1r, num_heads, num_kv_heads)
    return prepare_qkv_eager(qkv_BTC, gain_H, cos_1T1r, sin_1T1r, num_heads, num_kv_heads)


def prepare_qkv_eager(
    qkv_BTC: Tensor,
    gain_H: Tensor,
    cos_1T1r: Tensor,
    sin_1T1r: Tensor,
    num_heads: int,
    num_kv_heads: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The definition of `prepare_qkv`: every operation in qkv's dtype."""
    heads_BTSK = qkv_BTC.unflatten(-1, (num_heads + 2 * num_kv_heads, -1))
    q_BTHK, k_BTGK, v_BTGK = heads_BTSK.split([num_heads, num_kv_heads, num_kv_heads], dim=2)
    q_BTHK = apply_rotary(rms_norm(q_BTHK), cos_1T1r, sin_1T1r)
    k_BTGK = apply_rotary(rms_norm(k_BTGK), cos_1T1r, sin_1T1r)
    # Gain after the norm, per head: keeps attention logits bounded yet sharp in bf16.
    q_BTHK = q_BTHK * gain_H.to(q_BTHK.dtype)[:, None]
    return q_BTHK, k_BTGK, v_BTGK, v_BTGK


def apply_rotary(x_BTHK: Tensor, cos_1T1r: Tensor, sin_1T1r: Tensor) -> Tensor:
    """Rotate pairs (i, i + r) of the first 2r dimensions of each head; the rest passes."""
    half = cos_1T1r.size(-1)
    x1, x2, rest = x_BTHK.split([half, half, x_BTHK.size(-1) - 2 * half], dim=-1)
    rotated = (x1 * cos_1T1r + x2 * sin_1T1r, x2 * cos_1T1r - x1 * sin_1T1r)
    return torch.cat((*rotated, rest), dim=-1)
