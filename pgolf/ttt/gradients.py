"""Gradients of a batch that all ranks share: their number changes a step by rounding alone.

Legend: B batch, T time.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from pgolf.distributed import World
from pgolf.kernel.replay import ForwardBackward


def add_share(
    forward_backward: ForwardBackward, ids_BT: Tensor, targets_BT: Tensor, world: World
) -> tuple[Tensor, int]:
    """Add this rank's part of the gradient of the batch's mean loss, which may be none.

    Returns:
        the sum of its sequences' losses (fp32, on the device, detached), and their number.
    """
    batch, rank, world_size = len(ids_BT), world.rank, world.world_size
    first, last = batch * rank // world_size, batch * (rank + 1) // world_size
    if last == first:
        return ids_BT.new_zeros((), dtype=torch.float32), 0
    count = last - first
    loss = forward_backward(ids_BT[first:last], targets_BT[first:last], None, count / batch)
    return loss * count, count


@torch.no_grad()
def sum_gradients(parameters: list[nn.Parameter], world: World) -> None:
    """Sum over the ranks, in one all-reduce; a rank without gradients adds nothing.

    Gradients of several dtypes are summed in the widest of them.
    """
    if world.world_size == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    world.sum_all_([cast(Tensor, parameter.grad) for parameter in parameters])
