"""What lies between two blocks: the end of one, a U-Net skip, and the input of the next.

Legend: B batch, T time, D model_dim.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pgolf.kernel.choice import use_fused
from pgolf.kernel.norm import rms_norm
from pgolf.kernel.scaled_add import scaled_add_eager


class Stream(NamedTuple):
    """The residual stream as a block leaves it, the last sum undone: see `scaled_add`.

    Whoever reads the stream next adds the branches on the way: `enter_block`, or `scaled_add` after
    the last block.
    """

    base: Tensor  # [B, T, D]
    branches: tuple[Tensor, ...]  # one or two, [B, T, D]
    scales: tuple[Tensor, ...]  # as many, [D]


class Skip(NamedTuple):
    """A U-Net skip: lerp(weight*kept, x, sigmoid(gate)), or x + weight*kept without a gate."""

    kept: Tensor | None  # [B, T, D]; None where it is x itself
    weight: Tensor  # [D]
    gate: Tensor | None  # [D]


def enter_block(
    stream: Stream | None,
    x0_BTD: Tensor,
    mix_2D: Tensor,
    norm_scale: float,
    skip: Skip | None = None,
    keep_x: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """x = the stream; mixed = mix[0] * (x and skip) + mix[1] * x0; normed = its scaled RMS norm.

    Args:
        stream: what the block before left, or None for the first block, where x is x0.
        x0_BTD: the normed embedding, of the stream's shape and dtype.
        mix_2D: the factors of x and of x0 (modded-nanogpt's mix).
        norm_scale: factor on the norm.
        skip: blended into x first (PR #1738).
        keep_x: return x, the output of the block before, for a later skip.

    Returns:
        mixed and normed, of x0's shape and dtype; x0 itself; x, or None where it is not kept. Later
        users of x0 and x take those, so that the fused backward adds their gradients while it
        writes its own.
    """
    if use_fused(x0_BTD):
        from pgolf.kernel.fused.enter_block import enter_block_fused

        return enter_block_fused(stream, x0_BTD, mix_2D, norm_scale, skip, keep_x)
    return enter_block_eager(stream, x0_BTD, mix_2D, norm_scale, skip, keep_x)


def enter_block_eager(
    stream: Stream | None,
    x0_BTD: Tensor,
    mix_2D: Tensor,
    norm_scale: float,
    skip: Skip | None = None,
    keep_x: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The definition of `enter_block`: every operation in x0's dtype."""
    x_BTD = x0_BTD if stream is None else scaled_add_eager(*stream)
    entered_BTD = x_BTD if skip is None else _blend(x_BTD, *skip)
    mix_2D = mix_2D.to(x_BTD.dtype)
    mixed_BTD = mix_2D[0] * entered_BTD + mix_2D[1] * x0_BTD
    normed_BTD = rms_norm(mixed_BTD)
    return mixed_BTD, normed_BTD * norm_scale, x0_BTD, x_BTD if keep_x else None


def _blend(
    x_BTD: Tensor, kept_BTD: Tensor | None, weight_D: Tensor, gate_D: Tensor | None
) -> Tensor:
    scaled_BTD = weight_D.to(x_BTD.dtype) * (x_BTD if kept_BTD is None else kept_BTD)
    if gate_D is None:
        return x_BTD + scaled_BTD
    return torch.lerp(scaled_BTD, x_BTD, torch.sigmoid(gate_D.to(x_BTD.dtype)))
