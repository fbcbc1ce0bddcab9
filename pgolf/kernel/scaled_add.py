"""Branches added to the stream. Legend: B batch, T time, D model_dim."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pgolf.kernel.choice import use_fused


def scaled_add(x_BTD: Tensor, branches: Sequence[Tensor], scales: Sequence[Tensor]) -> Tensor:
    """x plus each branch times its scale.

    Args:
        x_BTD: the stream, contiguous; any number of leading dimensions.
        branches: one or two, of the same shape and dtype.
        scales: for each branch one factor a channel, [D].

    Returns:
        out_BTD in x's dtype.
    """
    if use_fused(x_BTD):
        from pgolf.kernel.fused.scaled_add import scaled_add_fused

        return scaled_add_fused(x_BTD, branches, scales)
    return scaled_add_eager(x_BTD, branches, scales)


def scaled_add_eager(x_BTD: Tensor, branches: Sequence[Tensor], scales: Sequence[Tensor]) -> Tensor:
    """The definition of `scaled_add`: every operation in x's dtype."""
    for branch_BTD, scale_D in zip(branches, scales, strict=True):
        x_BTD = x_BTD + scale_D.to(x_BTD.dtype) * branch_BTD
    return x_BTD
