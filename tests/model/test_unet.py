"""Orders of layers and skips."""

from __future__ import annotations

import torch

from pgolf.kernel.enter_block import Skip, enter_block
from pgolf.model.unet import plain_order, recurrent_order


def test_looped_layers_run_once_more_for_each_loop() -> None:
    for num_loops in range(4):
        order = recurrent_order(9, num_loops=num_loops, loop_start=2, loop_end=4)
        layers = order.encoder + order.decoder
        counts = [layers.count(layer) for layer in range(9)]
        assert counts == [1, 1, *[num_loops + 1] * 3, 1, 1, 1, 1]
        assert len(order.encoder) == len(layers) // 2


def test_without_loops_the_order_is_plain() -> None:
    assert recurrent_order(7, num_loops=0, loop_start=9, loop_end=3) == plain_order(7)
    assert plain_order(7).encoder == (0, 1, 2)
    assert plain_order(1).num_skips == 0


def test_gates_blend_between_skip_and_stream() -> None:
    x, kept, weight = torch.randn(3, 2, 4, 8)
    weight, only_x = weight[0, 0], torch.tensor([[1.0], [0.0]]).repeat(1, 8)

    def entered(gate: torch.Tensor | None) -> torch.Tensor:
        return enter_block(None, x, only_x, 1.0, Skip(kept, weight, gate))[0]

    torch.testing.assert_close(entered(torch.full((8,), 50.0)), x)
    torch.testing.assert_close(entered(torch.full((8,), -50.0)), weight * kept)
    torch.testing.assert_close(entered(torch.zeros(8)), (x + weight * kept) / 2)
    torch.testing.assert_close(entered(None), x + weight * kept)
