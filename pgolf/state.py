"""A short number for all weights and buffers, equal where nothing changed them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn


def tensors_of(modules: Sequence[nn.Module]) -> list[Tensor]:
    """Parameters and buffers of all modules, in a fixed order."""
    return [t for module in modules for t in (*module.parameters(), *module.buffers())]


@torch.no_grad()
def norms_of(modules: Sequence[nn.Module]) -> Tensor:
    """Of each parameter and buffer that has elements; torch's own counters miss `.data`."""
    wide = (torch.float32, torch.float64)
    tensors = [t if t.dtype in wide else t.float() for t in tensors_of(modules) if t.numel()]
    norms = torch._foreach_norm(tensors) if tensors else (torch.zeros(()),)
    return torch.stack([cast(Tensor, norm) for norm in norms]).nan_to_num()


def state_of(*modules: nn.Module) -> Tensor:
    """The norm of everything, fp64 []: on the device, nobody waits for it."""
    return norms_of(modules).double().norm()
