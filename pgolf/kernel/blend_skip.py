"""A U-Net skip blended into the stream. Legend: B batch, T time, D model_dim."""

from __future__ import annotations

import torch
from torch import Tensor

from pgolf.kernel.choice import use_fused


def blend_skip(x_BTD: Tensor, skip_BTD: Tensor, weight_D: Tensor, gate_D: Tensor | None) -> Tensor:
    """lerp(w*skip, x, sigmoid(g)), or x + w*skip without a gate.

    Args:
        x_BTD: the stream, contiguous; any number of leading dimensions.
        skip_BTD: an output of the encoder half, of the same shape and dtype.
        weight_D, gate_D: one weight and one gate logit a channel.

    Returns:
        out_BTD in x's dtype.
    """
    if use_fused(x_BTD):
        from pgolf.kernel.fused.blend_skip import blend_skip_fused

        return blend_skip_fused(x_BTD, skip_BTD, weight_D, gate_D)
    return blend_skip_eager(x_BTD, skip_BTD, weight_D, gate_D)


def blend_skip_eager(
    x_BTD: Tensor, skip_BTD: Tensor, weight_D: Tensor, gate_D: Tensor | None
) -> Tensor:
    """The definition of `blend_skip`: every operation in x's dtype."""
    scaled_BTD = weight_D.to(x_BTD.dtype) * skip_BTD
    if gate_D is None:
        return x_BTD + scaled_BTD
    return torch.lerp(scaled_BTD, x_BTD, torch.sigmoid(gate_D.to(x_BTD.dtype)))
