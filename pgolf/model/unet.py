"""The order in which layers run, and the U-Net skips between its two halves.

Legend: B batch, T time, D model_dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LayerOrder:
    """Layers by index: encoder outputs are stacked, the decoder pops one before each layer."""

    encoder: tuple[int, ...]
    decoder: tuple[int, ...]

    @property
    def num_skips(self) -> int:
        return min(len(self.encoder), len(self.decoder))


def plain_order(num_layers: int) -> LayerOrder:
    """Every layer once, split in the middle: 11 layers give 0-4 and 5-10."""
    layers = tuple(range(num_layers))
    return LayerOrder(layers[: num_layers // 2], layers[num_layers // 2 :])


def recurrent_order(
    num_layers: int, *, num_loops: int, loop_start: int, loop_end: int
) -> LayerOrder:
    """Layers loop_start..loop_end run num_loops + 1 times in a row; the whole is split in half.

    11 layers, 3-5 looped twice: [0,1,2,3,4,5,3,4] and [5,3,4,5,6,7,8,9,10] (PR #1738).
    """
    if num_loops == 0:
        return plain_order(num_layers)
    layers = tuple(range(num_layers))
    looped = layers[loop_start : loop_end + 1] * (num_loops + 1)
    order = layers[:loop_start] + looped + layers[loop_end + 1 :]
    return LayerOrder(order[: len(order) // 2], order[len(order) // 2 :])


def add_skip(x_BTD: Tensor, skip_BTD: Tensor, weight_D: Tensor, gate_D: Tensor | None) -> Tensor:
    """Blend a stacked output in: lerp(w*skip, x, sigmoid(g)), or x + w*skip without a gate."""
    scaled_BTD = weight_D.to(x_BTD.dtype) * skip_BTD
    if gate_D is None:
        return x_BTD + scaled_BTD
    return torch.lerp(scaled_BTD, x_BTD, torch.sigmoid(gate_D.to(x_BTD.dtype)))
