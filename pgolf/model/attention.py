"""Causal self-attention of recurrent3: grouped heads, q/k norm, partial rotary, gain, XSA.

Legend: B batch, T time, N last positions, D model_dim, H query heads, G key-value heads,
K head_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pgolf.kernel.attention import attention_of_last, causal_attention
from pgolf.kernel.linear import linear
from pgolf.kernel.qk_prep import apply_rotary, prepare_qkv
from pgolf.kernel.xsa import exclude_own_value
from pgolf.model.norm import rms_norm


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
        qkv_BTC = linear(x_BTD, self.c_q.weight, self.c_k.weight, self.c_v.weight)
        q_BTHK, k_BTGK, v_BTGK, own_BTGK = prepare_qkv(
            qkv_BTC, self.q_gain, cos_1T1r, sin_1T1r, self.num_heads, self.num_kv_heads
        )
        y_BTHK = causal_attention(q_BTHK, k_BTGK, v_BTGK, borders)
        if self.xsa:
            y_BTHK = exclude_own_value(y_BTHK, own_BTGK)
        return linear(y_BTHK.flatten(2), self.proj.weight)

    def of_last(self, x_BTD: Tensor, cos_1T1r: Tensor, sin_1T1r: Tensor, last_n: int) -> Tensor:
        """The end of `forward`, [B, N, D]: queries of the last N positions alone, all keys."""
        B, T, _ = x_BTD.shape
        q_BND = linear(x_BTD[:, -last_n:], self.c_q.weight)
        kv_BTC = linear(x_BTD, self.c_k.weight, self.c_v.weight)
        q_BNHK = q_BND.view(B, last_n, self.num_heads, self.head_dim)
        k_BTGK, v_BTGK = kv_BTC.view(B, T, 2 * self.num_kv_heads, self.head_dim).chunk(2, dim=2)
        q_BNHK = apply_rotary(rms_norm(q_BNHK), cos_1T1r[:, -last_n:], sin_1T1r[:, -last_n:])
        k_BTGK = apply_rotary(rms_norm(k_BTGK), cos_1T1r, sin_1T1r)
        q_BNHK = q_BNHK * self.q_gain.to(q_BNHK.dtype)[:, None]
        y_BNHK = attention_of_last(q_BNHK, k_BTGK, v_BTGK)
        if self.xsa:
            y_BNHK = exclude_own_value(y_BNHK, v_BTGK[:, -last_n:])
        return linear(y_BNHK.flatten(2), self.proj.weight)
