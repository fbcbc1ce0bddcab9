"""A branch added to the stream, and the norm of the sum. Legend: B batch, T time, D model_dim."""

from __future__ import annotations

from torch import Tensor

from pgolf.kernel.choice import use_fused
from pgolf.kernel.norm import rms_norm


def add_norm(
    x_BTD: Tensor, branch_BTD: Tensor, scale_D: Tensor, norm_scale: float
) -> tuple[Tensor, Tensor]:
    """x + scale * branch, and norm_scale times the RMS norm of that.

    Args:
        x_BTD: the stream, contiguous; any number of leading dimensions.
        branch_BTD: what attention or the MLP made, of the same shape and dtype.
        scale_D: one factor a channel of the branch.
        norm_scale: factor on the norm.

    Returns:
        sum and normed, of x's shape and dtype.
    """
    if use_fused(x_BTD):
        from pgolf.kernel.fused.add_norm import add_norm_fused

        return add_norm_fused(x_BTD, branch_BTD, scale_D, norm_scale)
    return add_norm_eager(x_BTD, branch_BTD, scale_D, norm_scale)


def add_norm_eager(
    x_BTD: Tensor, branch_BTD: Tensor, scale_D: Tensor, norm_scale: float
) -> tuple[Tensor, Tensor]:
    """The definition of `add_norm`: every operation in x's dtype."""
    sum_BTD = x_BTD + scale_D.to(x_BTD.dtype) * branch_BTD
    normed_BTD = rms_norm(sum_BTD)
    return sum_BTD, normed_BTD * norm_scale
