"""The global gradient norm over groups and ranks, without waiting for the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def by_dtype(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Lists of one dtype each: a multi-tensor kernel falls back to one launch a tensor for more."""
    groups: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.dtype, []).append(tensor)
    return list(groups.values())


def sum_of_squares(tensors: Sequence[Tensor], device: torch.device) -> Tensor:
    """Squared norm of all tensors together, fp32 []; 0 on `device` for none."""
    if not tensors:
        return torch.zeros((), device=device)
    norms: list[Tensor] = []
    for group in by_dtype(tensors):
        norms += torch._foreach_norm(group, 2, torch.float32)
    return torch.stack(norms).square().sum()


def mean_and_clip_scale(square_norm: Tensor, world_size: int, max_norm: float) -> Tensor:
    """What turns gradients summed over the ranks into clipped means, fp32 [].

    The factor of `torch.nn.utils.clip_grad_norm_` divided by the number of ranks.

    Args:
        square_norm: squared norm of the summed gradients.
        max_norm: bound of the norm of the mean.
    """
    norm = square_norm.sqrt() / world_size
    return (max_norm / (norm + 1e-6)).clamp(max=1.0) / world_size
