"""A block of recurrent3: input mix, attention and MLP, in sequence or in parallel.

Legend: B batch, T time, N last positions, D model_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pgolf.kernel.add_norm import add_norm
from pgolf.kernel.enter_block import Skip, Stream, enter_block
from pgolf.model.attention import CausalSelfAttention
from pgolf.model.mlp import LeakySquareMLP


class Block(nn.Module):
    """Mixes the stream with the embedding, then adds attention and MLP, each scaled by a vector.

    Its last sum is left to whoever reads the stream next.

    Args:
        attention, mlp: the two branches.
        model_dim: width D.
        parallel: both branches read the mixed input; else the MLP reads what attention left.
    """

    def __init__(
        self,
        attention: CausalSelfAttention,
        mlp: LeakySquareMLP,
        *,
        model_dim: int,
        parallel: bool,
    ) -> None:
        super().__init__()
        self.attn, self.mlp, self.parallel = attention, mlp, parallel
        self.attn_scale = nn.Parameter(torch.ones(model_dim))
        self.mlp_scale = nn.Parameter(torch.ones(model_dim))
        mix_2D = torch.zeros(2, model_dim)
        mix_2D[0] = 1.0
        self.resid_mix = nn.Parameter(mix_2D)

    def forward(
        self,
        stream: Stream | None,
        x0_BTD: Tensor,
        skip: Skip | None,
        norm_scale: float,
        cos_1T1r: Tensor,
        sin_1T1r: Tensor,
        borders: Tensor | None,
        *,
        keep_x: bool = False,
        last_n: int | None = None,
    ) -> tuple[Stream, Tensor, Tensor | None]:
        """One pass.

        Args:
            stream, x0_BTD, skip: see `enter_block`.
            norm_scale: factor on the normed input of both branches.
            cos_1T1r, sin_1T1r: of `rotary_tables`.
            borders: of `document_borders`, or None.
            keep_x: return what the block before put out.
            last_n: compute the last N positions alone, where nothing reads the others.

        Returns:
            the stream, of [B, T, D] or [B, N, D]; x0 for the next block; x, [B, T, D], or None.
        """
        mixed_BTD, normed_BTD, x0_BTD, x_BTD = enter_block(
            stream, x0_BTD, self.resid_mix, norm_scale, skip, keep_x
        )
        if last_n is None:
            branch_BTD = self.attn(normed_BTD, cos_1T1r, sin_1T1r, borders)
        else:
            branch_BTD = self.attn.of_last(normed_BTD, cos_1T1r, sin_1T1r, last_n)
            mixed_BTD, normed_BTD = (t[:, -last_n:].contiguous() for t in (mixed_BTD, normed_BTD))
        if self.parallel:
            branches = (branch_BTD, self.mlp(normed_BTD))
            return Stream(mixed_BTD, branches, (self.attn_scale, self.mlp_scale)), x0_BTD, x_BTD
        sum_BTD, normed_BTD = add_norm(mixed_BTD, branch_BTD, self.attn_scale, norm_scale)
        return Stream(sum_BTD, (self.mlp(normed_BTD),), (self.mlp_scale,)), x0_BTD, x_BTD
