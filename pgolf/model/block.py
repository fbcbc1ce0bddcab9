"""A block of recurrent3: input mix, attention and MLP, in sequence or in parallel.

Legend: B batch, T time, D model_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pgolf.model.attention import CausalSelfAttention
from pgolf.model.mlp import LeakySquareMLP
from pgolf.model.norm import rms_norm


class Block(nn.Module):
    """Mixes the stream with the embedding, then adds attention and MLP, each scaled by a vector.

    Args:
        attention, mlp: the two branches.
        model_dim: width D.
        parallel: both branches read the mixed input; else the MLP reads what attention left.
        norm_scale: factor on the normed input of both branches, 1/sqrt(layer+1) in recurrent3.
    """

    def __init__(
        self,
        attention: CausalSelfAttention,
        mlp: LeakySquareMLP,
        *,
        model_dim: int,
        parallel: bool,
        norm_scale: float,
    ) -> None:
        super().__init__()
        self.attn, self.mlp = attention, mlp
        self.parallel, self.norm_scale = parallel, norm_scale
        self.attn_scale = nn.Parameter(torch.ones(model_dim))
        self.mlp_scale = nn.Parameter(torch.ones(model_dim))
        self.resid_mix = nn.Parameter(torch.stack((torch.ones(model_dim), torch.zeros(model_dim))))

    def forward(
        self,
        x_BTD: Tensor,
        x0_BTD: Tensor,
        cos_1T1r: Tensor,
        sin_1T1r: Tensor,
        borders: Tensor | None,
    ) -> Tensor:
        """One pass; x0 is the normed embedding, cos and sin the rotary tables."""
        dtype = x_BTD.dtype
        mix_2D = self.resid_mix.to(dtype)
        attn_scale_D, mlp_scale_D = self.attn_scale.to(dtype), self.mlp_scale.to(dtype)
        x_BTD = mix_2D[0] * x_BTD + mix_2D[1] * x0_BTD
        normed_BTD = self.norm(x_BTD)
        branch_BTD = self.attn(normed_BTD, cos_1T1r, sin_1T1r, borders)
        attended_BTD = x_BTD + attn_scale_D * branch_BTD
        if not self.parallel:
            normed_BTD = self.norm(attended_BTD)
        return attended_BTD + mlp_scale_D * self.mlp(normed_BTD)

    def norm(self, x_BTD: Tensor) -> Tensor:
        return rms_norm(x_BTD) * self.norm_scale
