"""Matrices and Hessians made up for the tests of quantizers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pgolf.distributed import World
from pgolf.quant.codes import Codes, IntTensor
from pgolf.quant.engine import quantize_weights
from pgolf.quant.rules import Rule


def unasked(codes: Codes) -> int:
    """Where a quantizer is not supposed to ask for the size of an artifact."""
    raise AssertionError("nobody is expected to ask for a size")


def problem(rows: int, columns: int, seed: int, rank: int = 4) -> tuple[Tensor, Tensor]:
    """A matrix and the Hessian of inputs that share a few strong directions."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(rank, columns, generator=generator)
    x = torch.randn(200, rank, generator=generator) @ mix
    x += 0.3 * torch.randn(200, columns, generator=generator)
    return torch.randn(rows, columns, generator=generator), x.T @ x


def output_error(weight: Tensor, found: IntTensor, hessian: Tensor) -> float:
    error = found.dequantize().double() - weight.double()
    return float((error @ hessian.double() * error).sum())


def quantized(weight: Tensor, hessian: Tensor | None, **keys: Any) -> IntTensor:
    """A matrix by a rule with these keys."""
    hessians = {} if hessian is None else {"a": hessian}
    rule = Rule(pattern="a", **keys)
    found = quantize_weights({"a": weight}, hessians, [rule], World()).tensors["a"]
    assert isinstance(found, IntTensor)
    return found
