"""Which implementation of a kernel runs: the fused Triton one or its eager twin.

Every fused kernel has a twin in plain torch, which defines what it computes. The choice is made
once for a process, as that of the attention backend is.
"""

from __future__ import annotations

import importlib.util
from typing import cast

import torch
from torch import Tensor, nn

from pgolf.errors import UserError

FUSED, PLAIN = "fused", "plain"

_choice = PLAIN


def set_kernels(requested: str, device: torch.device, precision: str) -> str:
    """Select the kernels of this process; returns "fused" or "plain".

    Args:
        requested: "auto" takes the fused kernels where they run.
        precision: of the world; the fused kernels compute on bf16 activations.

    Raises:
        UserError: "fused" is asked for where it cannot run.
    """
    global _choice
    reason = why_not_fused(device, precision)
    if requested == FUSED and reason:
        raise UserError(f"hardware.kernels=fused does not work here: {reason}; use auto or plain")
    _choice = PLAIN if requested == PLAIN or reason else FUSED
    return _choice


def why_not_fused(device: torch.device, precision: str) -> str:
    """Why the fused kernels cannot run on this device, or an empty string."""
    if device.type != "cuda":
        return "they are written for CUDA"
    if precision != "bf16":
        return "they need hardware.precision=bf16"
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "they need a GPU of compute capability 8.0 or newer"
    return ""


def compiles(requested: bool | None, device: torch.device) -> bool:
    """Whether blocks are compiled; None compiles on CUDA what has no fused kernels."""
    return device.type == "cuda" and _choice == PLAIN if requested is None else requested


def compile_blocks(model: nn.Module) -> None:
    """Compile each block of a model by itself, in place.

    Blocks of one structure share their compiled code, whatever order they run in: it is short to
    compile, and switching the recurrence on compiles nothing.
    """
    # Training and inference, in sequence and in parallel, first queries and all: more than 8 kinds.
    torch._dynamo.config.recompile_limit = 64
    for block in cast(nn.ModuleList, model.blocks):
        block.compile()


def use_fused_kernels() -> bool:
    """Whether this process has chosen the fused kernels."""
    return _choice == FUSED


def use_fused(activations: Tensor) -> bool:
    """Whether a kernel given these activations takes its fused form."""
    return _choice == FUSED and activations.is_cuda and activations.dtype == torch.bfloat16
