"""`model=recurrent3`: depth-recurrent GPT of PR #1738 (V15), 35,944,536 parameters at full size.

Legend: B batch, T time, D model_dim, V vocab_size.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgolf.errors import UserError
from pgolf.kernel.enter_block import Skip, Stream
from pgolf.kernel.norm import rms_norm
from pgolf.kernel.scaled_add import scaled_add
from pgolf.model.attention import CausalSelfAttention
from pgolf.model.block import Block
from pgolf.model.check import check_heads, check_positive
from pgolf.model.documents import borders_of, bos_of_scope
from pgolf.model.head import LanguageModel, stream_dtype
from pgolf.model.mlp import LeakySquareMLP
from pgolf.model.rotary import rotary_tables
from pgolf.model.unet import LayerOrder, plain_order, recurrent_order

EMBED_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Matrices with a side below this keep nn.Linear's own initialization, as in the published code.
ORTHOGONAL_FROM = 64


class RecurrentGPT(LanguageModel):
    """GPT with U-Net skips whose middle layers run several times once the recurrence is on.

    | parameter                              | shape        | first value                        |
    |----------------------------------------|--------------|------------------------------------|
    | tok_emb.weight (tied head)             | V, D         | N(0, embed_init_std^2)             |
    | blocks.I.attn.c_q / c_k / c_v .weight  | HK or GK, D  | orthogonal if both sides >= 64     |
    | blocks.I.mlp.fc.weight                 | F, D         | orthogonal if both sides >= 64     |
    | blocks.I.attn.proj, mlp.proj .weight   | D, D or F    | 0: a block begins as the identity  |
    | blocks.I.attn.q_gain                   | H            | qk_gain_init                       |
    | blocks.I.attn_scale, mlp_scale         | D            | 1                                  |
    | blocks.I.resid_mix                     | 2, D         | 1 (stream), 0 (embedding)          |
    | skip_weights                           | num_skips, D | 1                                  |
    | skip_gates                             | num_skips, D | 0: half skip, half stream          |

    Args:
        vocab_size, num_layers, model_dim, num_heads, num_kv_heads: sizes.
        mlp_mult: hidden width of the MLP as a multiple of model_dim.
        rope_base, rope_dims: rotary base, and how many dimensions of a head are rotated.
        rope_freq_dtype: "bf16" rounds the rotary frequencies, with which published weights score
            better; "fp32" keeps them.
        train_seq_len: longer inputs scale the rotary base.
        num_loops: how many more times layers loop_start..loop_end run; 0 is no recurrence.
        parallel_start: first layer whose branches read the same input; -1 is none.
        xsa_last_n: number of last layers with exclusive self-attention.
        qk_gain_init: first value of the gain on q.
        logit_softcap: bound of the logits.
        ln_scale: scale each block's normed inputs by 1/sqrt(layer+1).
        skip_gates: gate the skips; False adds them.
        embed_init_std: standard deviation of the initial embedding.
        embed_dtype: "bf16" as published (no fp32 master of the embedding) or "fp32".
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
        rope_base: float = 10000.0,
        rope_dims: int,
        rope_freq_dtype: Literal["fp32", "bf16"] = "fp32",
        train_seq_len: int,
        num_loops: int,
        loop_start: int,
        loop_end: int,
        parallel_start: int,
        xsa_last_n: int,
        qk_gain_init: float = 5.25,
        logit_softcap: float = 30.0,
        ln_scale: bool = True,
        skip_gates: bool = True,
        embed_init_std: float = 0.005,
        embed_dtype: Literal["fp32", "bf16"] = "bf16",
        attention_scope: Literal["window", "document"] = "window",
        bos_id: int = 1,
    ) -> None:
        super().__init__()
        check_positive(
            vocab_size=vocab_size, num_layers=num_layers, model_dim=model_dim, num_heads=num_heads,
            num_kv_heads=num_kv_heads, mlp_mult=mlp_mult, train_seq_len=train_seq_len,
            logit_softcap=logit_softcap, embed_init_std=embed_init_std,
        )  # fmt: skip
        check_heads(
            model_dim=model_dim, num_heads=num_heads, num_kv_heads=num_kv_heads, rope_dims=rope_dims
        )
        _check_loop(num_layers, num_loops, loop_start, loop_end)
        self.rope_base, self.rope_dims = float(rope_base), rope_dims
        self.rope_freq_dtype = rope_freq_dtype
        self.train_seq_len, self.logit_softcap = train_seq_len, logit_softcap
        self.document_bos = bos_of_scope(attention_scope, bos_id)
        self.plain = plain_order(num_layers)
        self.recurrent = recurrent_order(
            num_layers, num_loops=num_loops, loop_start=loop_start, loop_end=loop_end
        )
        self.recurrence_is_on = False

        self.tok_emb = nn.Embedding(vocab_size, model_dim)
        # As many skips as the recurrent order has, also while recurrence is off: switching it on
        # changes no parameters.
        num_skips = self.recurrent.num_skips
        self.skip_weights = nn.Parameter(torch.ones(num_skips, model_dim))
        self.skip_gates = nn.Parameter(torch.zeros(num_skips, model_dim)) if skip_gates else None
        self.blocks = nn.ModuleList(
            Block(
                CausalSelfAttention(
                    model_dim=model_dim,
                    num_heads=num_heads,
                    num_kv_heads=num_kv_heads,
                    qk_gain_init=qk_gain_init,
                    xsa=layer >= num_layers - xsa_last_n,
                ),
                LeakySquareMLP(model_dim=model_dim, mlp_mult=mlp_mult),
                model_dim=model_dim,
                parallel=0 <= parallel_start <= layer,
            )
            for layer in range(num_layers)
        )
        self.norm_scales = [(i + 1) ** -0.5 if ln_scale else 1.0 for i in range(num_layers)]
        self.init_weights(embed_init_std)
        self.tok_emb.to(EMBED_DTYPES[embed_dtype])

    @torch.no_grad()
    def init_weights(self, embed_init_std: float) -> None:
        """Draw the matrices' first values from torch's generator; see the table of the class."""
        nn.init.normal_(self.tok_emb.weight, std=embed_init_std)
        for name, module in self.blocks.named_modules():
            if not isinstance(module, nn.Linear):
                continue
            if name.endswith("proj"):
                nn.init.zeros_(module.weight)
            elif min(module.weight.shape) >= ORTHOGONAL_FROM:
                nn.init.orthogonal_(module.weight)

    def recurrence(self, on: bool) -> None:
        """Switch the looped order on or off; parameters stay the same."""
        self.recurrence_is_on = on

    def last_vectors(
        self, ids_BT: Tensor, last_n: int | None, borders: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """See `LanguageModel`."""
        weight_VD = self.tok_emb.weight.to(stream_dtype(self.tok_emb.weight))
        borders = borders_of(ids_BT, self.document_bos, borders)
        x_BND = self.layers(rms_norm(F.embedding(ids_BT, weight_VD)), last_n, borders)
        return rms_norm(x_BND), weight_VD

    def rotary(self, seq_len: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of so many positions."""
        return rotary_tables(
            seq_len,
            rope_dims=self.rope_dims,
            base=self.rope_base,
            train_seq_len=self.train_seq_len,
            like=like,
            freq_dtype=self.rope_freq_dtype,
        )

    def layers(self, x0_BTD: Tensor, last_n: int | None, borders: Tensor | None) -> Tensor:
        """All blocks in the current order, with skips from the encoder half to the decoder half."""
        order: LayerOrder = self.recurrent if self.recurrence_is_on else self.plain
        cos_1T1r, sin_1T1r = self.rotary(x0_BTD.size(1), x0_BTD)
        stream: Stream | None = None
        kept: list[Tensor | None] = []
        for i, layer in enumerate(order.encoder):
            # A block adds up and keeps what the one before put out; the first has none before it.
            stream, x0_BTD, x_BTD = self.blocks[layer](
                stream, x0_BTD, None, self.norm_scales[layer], cos_1T1r, sin_1T1r, borders,
                keep_x=i > 0,
            )  # fmt: skip
            kept += [x_BTD] if i > 0 else []
        kept += [None] if order.encoder else []  # the output of the last is the stream itself
        # What only the last block would compute for positions that nobody reads is left out.
        narrow = None if borders is not None or last_n == x0_BTD.size(1) else last_n
        for i, layer in enumerate(order.decoder):
            skip = None
            if kept and i < len(self.skip_weights):
                gate_D = self.skip_gates[i] if self.skip_gates is not None else None
                skip = Skip(kept.pop(), self.skip_weights[i], gate_D)
            is_last = i == len(order.decoder) - 1
            stream, x0_BTD, _ = self.blocks[layer](
                stream, x0_BTD, skip, self.norm_scales[layer], cos_1T1r, sin_1T1r, borders,
                last_n=narrow if is_last else None,
            )  # fmt: skip
        assert stream is not None
        x_BTD = scaled_add(*stream)
        return x_BTD if last_n is None else x_BTD[:, -last_n:]


def _check_loop(num_layers: int, num_loops: int, loop_start: int, loop_end: int) -> None:
    if num_loops < 0:
        raise UserError(f"model.num_loops={num_loops}: expected 0 (no recurrence) or more")
    if num_loops and not 0 <= loop_start <= loop_end < num_layers:
        raise UserError(
            f"model.loop_start={loop_start}, loop_end={loop_end}: expected 0 <= loop_start <= "
            f"loop_end < num_layers={num_layers}; change scale.loop_start or scale.loop_end"
        )
