"""Causal self-attention of recurrent3: grouped heads, q/k norm, partial rotary, gain, XSA.

Legend: B batch, T time, N last positions, D model_dim, H query heads, G key-value heads,
K head_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pgolf.kernel.attention import attention_of_last, causal_attention
from pgolf.kernel.linear import linear
from pgolf.kernel.qk_prep import prepare_qkv
from pgolf.kernel.xsa import exclude_own_value


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
        q_BTHK, k_BTGK, v_BTGK, own_BTGK = self.queries_keys_values(x_BTD, cos_1T1r, sin_1T1r)
        return self.output(causal_attention(q_BTHK, k_BTGK, v_BTGK, borders), own_BTGK)

    def of_last(self, x_BTD: Tensor, cos_1T1r: Tensor, sin_1T1r: Tensor, last_n: int) -> Tensor:
        """The end of `forward`, [B, N, D]: what the last N positions see, in all keys."""
        q_BTHK, k_BTGK, v_BTGK, own_BTGK = self.queries_keys_values(x_BTD, cos_1T1r, sin_1T1r)
        y_BNHK = attention_of_last(q_BTHK[:, -last_n:], k_BTGK, v_BTGK)
        return self.output(y_BNHK, own_BTGK[:, -last_n:])

    def queries_keys_values(
        self, x_BTD: Tensor, cos_1T1r: Tensor, sin_1T1r: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See `prepare_qkv`."""
        qkv_BTC = linear(x_BTD, self.c_q.weight, self.c_k.weight, self.c_v.weight)
        return prepare_qkv(
            qkv_BTC, self.q_gain, cos_1T1r, sin_1T1r, self.num_heads, self.num_kv_heads
        )

    def output(self, y_BTHK: Tensor, own_BTGK: Tensor) -> Tensor:
        """What leaves attention, [B, T, D], from what the heads found and their own values."""
        if self.xsa:
            y_BTHK = exclude_own_value(y_BTHK, own_BTGK)
        return linear(y_BTHK.flatten(2), self.proj.weight)
