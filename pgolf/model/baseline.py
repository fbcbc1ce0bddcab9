"""`model=baseline`: a plain GPT to compare with, and a proof that any model can be swapped in.

Legend: B batch, T time, D model_dim, H query heads, G key-value heads, K head_dim, V vocab_size.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from pgolf.kernel.attention import causal_attention
from pgolf.kernel.linear import adapted, linear
from pgolf.kernel.norm import rms_norm
from pgolf.kernel.qk_prep import apply_rotary
from pgolf.model.check import check_heads, check_positive
from pgolf.model.documents import borders_of, bos_of_scope
from pgolf.model.head import LanguageModel, stream_dtype
from pgolf.model.rotary import rotary_tables


class BaselineGPT(LanguageModel):
    """Pre-norm transformer: RMS norm, rotary on whole heads, grouped heads, tied embeddings.

    | parameter                                            | first value            |
    |------------------------------------------------------|------------------------|
    | tok_emb.weight (tied head)                           | N(0, embed_init_std^2) |
    | blocks.I.attn.{c_q,c_k,c_v}.weight, mlp.fc.weight    | N(0, 1/D)              |
    | blocks.I.attn.proj.weight, mlp.proj.weight           | 0                      |

    Args:
        vocab_size, num_layers, model_dim, num_heads, num_kv_heads: sizes.
        mlp_mult: hidden width of the MLP as a multiple of model_dim.
        activation: "relu2" is max(0, x)^2.
        rope_base: base of the rotary frequencies.
        train_seq_len: longer inputs scale the rotary base.
        logit_softcap: bound of the logits.
        embed_init_std: standard deviation of the initial embedding.
        attention_scope: attention sees the whole "window", or what lies in the same "document".
        bos_id: the id that begins a document.

    Raises:
        UserError: sizes that do not divide or lie outside their range.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        num_layers: int,
        model_dim: int,
        num_heads: int,
        num_kv_heads: int,
        mlp_mult: float = 4.0,
        activation: Literal["relu2", "gelu"] = "relu2",
        rope_base: float = 10000.0,
        train_seq_len: int,
        logit_softcap: float = 30.0,
        embed_init_std: float = 0.02,
        attention_scope: Literal["window", "document"] = "window",
        bos_id: int = 1,
    ) -> None:
        super().__init__()
        check_positive(
            vocab_size=vocab_size, num_layers=num_layers, model_dim=model_dim, num_heads=num_heads,
            num_kv_heads=num_kv_heads, mlp_mult=mlp_mult, train_seq_len=train_seq_len,
            logit_softcap=logit_softcap, embed_init_std=embed_init_std,
        )  # fmt: skip
        self.rope_dims = model_dim // num_heads
        check_heads(
            model_dim=model_dim,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            rope_dims=self.rope_dims,
        )
        self.rope_base, self.train_seq_len = float(rope_base), train_seq_len
        self.logit_softcap = logit_softcap
        self.document_bos = bos_of_scope(attention_scope, bos_id)
        self.tok_emb = nn.Embedding(vocab_size, model_dim)
        self.blocks = nn.ModuleList(
            PlainBlock(model_dim, num_heads, num_kv_heads, int(model_dim * mlp_mult), activation)
            for _ in range(num_layers)
        )
        nn.init.normal_(self.tok_emb.weight, std=embed_init_std)
        for name, module in self.blocks.named_modules():
            if isinstance(module, nn.Linear):
                std = 0.0 if name.endswith("proj") else model_dim**-0.5
                nn.init.normal_(module.weight, std=std)

    def recurrence(self, on: bool) -> None:
        """Nothing to switch: every layer runs once."""

    def rotary(self, seq_len: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of so many positions."""
        return rotary_tables(
            seq_len,
            rope_dims=self.rope_dims,
            base=self.rope_base,
            train_seq_len=self.train_seq_len,
            like=like,
        )

    def last_vectors(
        self, ids_BT: Tensor, last_n: int | None, borders: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """See `LanguageModel`."""
        weight_VD = self.tok_emb.weight.to(stream_dtype(self.tok_emb.weight))
        x_BTD = rms_norm(F.embedding(ids_BT, weight_VD))
        cos_1T1r, sin_1T1r = self.rotary(ids_BT.size(1), x_BTD)
        borders = borders_of(ids_BT, self.document_bos, borders)
        for block in self.blocks:
            x_BTD = block(x_BTD, cos_1T1r, sin_1T1r, borders)
        return rms_norm(x_BTD if last_n is None else x_BTD[:, -last_n:]), weight_VD


class PlainBlock(nn.Module):
    """x + attn(norm(x)), then x + mlp(norm(x))."""

    def __init__(
        self, model_dim: int, num_heads: int, num_kv_heads: int, hidden_dim: int, activation: str
    ) -> None:
        super().__init__()
        self.attn = PlainAttention(model_dim, num_heads, num_kv_heads)
        self.mlp = PlainMLP(model_dim, hidden_dim, activation)

    def forward(
        self, x_BTD: Tensor, cos_1T1r: Tensor, sin_1T1r: Tensor, borders: Tensor | None
    ) -> Tensor:
        x_BTD = x_BTD + self.attn(rms_norm(x_BTD), cos_1T1r, sin_1T1r, borders)
        out_BTD: Tensor = x_BTD + self.mlp(rms_norm(x_BTD))
        return out_BTD


class PlainAttention(nn.Module):
    """Causal attention with rotary positions and normed q and k, nothing else."""

    def __init__(self, model_dim: int, num_heads: int, num_kv_heads: int) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads
        self.head_dim = model_dim // num_heads
        kv_dim = num_kv_heads * self.head_dim
        self.c_q = nn.Linear(model_dim, model_dim, bias=False)
        self.c_k = nn.Linear(model_dim, kv_dim, bias=False)
        self.c_v = nn.Linear(model_dim, kv_dim, bias=False)
        self.proj = nn.Linear(model_dim, model_dim, bias=False)

    def forward(
        self, x_BTD: Tensor, cos_1T1r: Tensor, sin_1T1r: Tensor, borders: Tensor | None
    ) -> Tensor:
        """One pass; the tables are of `rotary_tables`, the borders of `document_borders`."""
        q_BTHK, k_BTGK, v_BTGK, own_BTGK = self.queries_keys_values(x_BTD, cos_1T1r, sin_1T1r)
        return self.output(causal_attention(q_BTHK, k_BTGK, v_BTGK, borders), own_BTGK)

    def queries_keys_values(
        self, x_BTD: Tensor, cos_1T1r: Tensor, sin_1T1r: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normed and rotated q and k, and v twice, as `pgolf.kernel.qk_prep.prepare_qkv`."""
        qkv_BTC = linear(x_BTD, self.c_q.weight, self.c_k.weight, self.c_v.weight)
        H, G = self.num_heads, self.num_kv_heads
        heads_BTSK = qkv_BTC.unflatten(-1, (H + 2 * G, self.head_dim))
        q_BTHK, k_BTGK, v_BTGK = heads_BTSK.split([H, G, G], dim=2)
        q_BTHK, k_BTGK = rms_norm(q_BTHK), rms_norm(k_BTGK)
        q_BTHK = apply_rotary(q_BTHK, cos_1T1r, sin_1T1r)
        k_BTGK = apply_rotary(k_BTGK, cos_1T1r, sin_1T1r)
        return q_BTHK, k_BTGK, v_BTGK, v_BTGK

    def output(self, y_BTHK: Tensor, own_BTGK: Tensor) -> Tensor:
        """What leaves attention, [B, T, D]; the heads' own values play no part."""
        return linear(y_BTHK.flatten(2), self.proj.weight)


class PlainMLP(nn.Module):
    """proj(activation(fc(x))) with relu^2 (Primer, arXiv 2109.08668) or gelu."""

    def __init__(self, model_dim: int, hidden_dim: int, activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.fc = nn.Linear(model_dim, hidden_dim, bias=False)
        self.proj = nn.Linear(hidden_dim, model_dim, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        hidden_BTF = linear(x_BTD, self.fc.weight)
        if self.activation == "relu2":
            hidden_BTF = F.relu(hidden_BTF).square()
        else:
            hidden_BTF = F.gelu(hidden_BTF)
        out_BTD = linear(hidden_BTF, self.proj.weight)
        return adapted(out_BTD, x_BTD, self.fc.weight, self.proj.weight)
