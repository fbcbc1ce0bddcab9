"""Causal self-attention of recurrent3: grouped heads, q/k norm, partial rotary, gain, XSA.

Legend: B batch, T time, D model_dim, H query heads, G key-value heads, K head_dim.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgolf.kernel.attention import causal_attention
from pgolf.model.norm import rms_norm
from pgolf.model.rotary import apply_rotary


def exclude_own_value(y_BTHK: Tensor, v_BTGK: Tensor) -> Tensor:
    """XSA, exclusive self-attention: y minus its projection on the value at its own position.

    What attention says about a position through that position's own value is already in the
    residual stream; the head keeps what it learned from the others (arXiv 2603.09078, PR #1738).
    """
    B, T, H, K = y_BTHK.shape
    direction_BTG1K = F.normalize(v_BTGK, dim=-1)[:, :, :, None, :]
    y_BTGgK = y_BTHK.reshape(B, T, v_BTGK.size(2), -1, K)
    along_BTGg1 = (y_BTGgK * direction_BTG1K).sum(-1, keepdim=True)
    return (y_BTGgK - along_BTGg1 * direction_BTG1K).reshape(B, T, H, K)


class CausalSelfAttention(nn.Module):
    """Attention with RMS-normed q and k, a learned gain per query head, and optionally XSA.

    Args:
        model_dim: width D of input and output.
        num_heads, num_kv_heads: H query heads share G key-value heads evenly.
        qk_gain_init: first value of the gain, which multiplies q after its norm.
        xsa: remove from each head's output its component along its own value.
    """

    def __init__(
        self, *, model_dim: int, num_heads: int, num_kv_heads: int, qk_gain_init: float, xsa: bool
    ) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads
        self.head_dim, self.xsa = model_dim // num_heads, xsa
        kv_dim = num_kv_heads * self.head_dim
        self.c_q = nn.Linear(model_dim, model_dim, bias=False)
        self.c_k = nn.Linear(model_dim, kv_dim, bias=False)
        self.c_v = nn.Linear(model_dim, kv_dim, bias=False)
        self.proj = nn.Linear(model_dim, model_dim, bias=False)
        self.q_gain = nn.Parameter(torch.full((num_heads,), qk_gain_init))

    def forward(
        self, x_BTD: Tensor, cos_1T1r: Tensor, sin_1T1r: Tensor, borders: Tensor | None
    ) -> Tensor:
        """One pass; the tables are of `rotary_tables`, the borders of `document_borders`."""
        B, T, D = x_BTD.shape
        q_BTHK = self.c_q(x_BTD).view(B, T, self.num_heads, self.head_dim)
        k_BTGK = self.c_k(x_BTD).view(B, T, self.num_kv_heads, self.head_dim)
        v_BTGK = self.c_v(x_BTD).view(B, T, self.num_kv_heads, self.head_dim)
        q_BTHK = apply_rotary(rms_norm(q_BTHK), cos_1T1r, sin_1T1r)
        k_BTGK = apply_rotary(rms_norm(k_BTGK), cos_1T1r, sin_1T1r)
        # Gain after the norm, per head: keeps attention logits bounded yet sharp in bf16.
        q_BTHK = q_BTHK * self.q_gain.to(q_BTHK.dtype)[:, None]
        y_BTHK = causal_attention(q_BTHK, k_BTGK, v_BTGK, borders)
        if self.xsa:
            y_BTHK = exclude_own_value(y_BTHK, v_BTGK)
        out_BTD: Tensor = self.proj(y_BTHK.reshape(B, T, D))
        return out_BTD
