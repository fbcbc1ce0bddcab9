"""The order in which layers run: encoder half, decoder half, and a loop in the middle."""

from __future__ import annotations

from dataclasses import dataclass


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
