"""The input of a block: the stream mixed with the embedding, and its norm.

Legend: B batch, T time, D model_dim.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pgolf.kernel.choice import use_fused


def mix_norm(
    x_BTD: Tensor, x0_BTD: Tensor, mix_2D: Tensor, norm_scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """mix[0] * x + mix[1] * x0, and norm_scale times the RMS norm of that (modded-nanogpt's mix).

    Args:
        x_BTD: the stream, contiguous; any number of leading dimensions.
        x0_BTD: the normed embedding, of the same shape and dtype.
        mix_2D: the factors of x and of x0.
        norm_scale: factor on the norm.

    Returns:
        mixed and normed, of x's shape and dtype, and x0 itself. The next user of x0 takes that one,
        so that the fused backward adds its gradient while it writes this one's.
    """
    if use_fused(x_BTD):
        from pgolf.kernel.fused.mix_norm import mix_norm_fused

        return mix_norm_fused(x_BTD, x0_BTD, mix_2D, norm_scale)
    return mix_norm_eager(x_BTD, x0_BTD, mix_2D, norm_scale)


def mix_norm_eager(
    x_BTD: Tensor, x0_BTD: Tensor, mix_2D: Tensor, norm_scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The definition of `mix_norm`: every operation in x's dtype."""
    mix_2D = mix_2D.to(x_BTD.dtype)
    mixed_BTD = mix_2D[0] * x_BTD + mix_2D[1] * x0_BTD
    # Autocast runs rms_norm in fp32 on some versions of torch.
    normed_BTD = F.rms_norm(mixed_BTD, (mixed_BTD.size(-1),)).to(x_BTD.dtype)
    return mixed_BTD, normed_BTD * norm_scale, x0_BTD
