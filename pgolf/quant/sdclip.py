"""SDClip: a row's scale comes from its standard deviation, not from its largest weight (PR #1394).

A grid that ends at k standard deviations gives no weight to rare outliers, and k sets how well the
codes compress: a row's codes have the standard deviation (2^(bits-1) - 1) / k.
Legend: R rows, C columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pgolf.errors import RunFailed, UserError
from pgolf.progress import track
from pgolf.quant.codes import FP16_MAX, Codes, IntTensor, to_fp16

EMBEDDING = "tok_emb.weight"
SMALLEST_FP16 = 2.0**-24  # the least subnormal: a scale below it would round to 0


@dataclass(frozen=True)
class SDClip:
    """Which tensors are quantized, to how many bits, and on which grid.

    Args:
        bits, embed_bits: 2 to 8, of matrices and of the tied embedding.
        clip_sigmas, embed_clip_sigmas: where the grid ends, in standard deviations of the row.
        min_elements: smaller tensors stay fp16.

    Raises:
        UserError: a value outside its range.
    """

    bits: int
    embed_bits: int
    clip_sigmas: float
    embed_clip_sigmas: float
    min_elements: int

    def __post_init__(self) -> None:
        for key in ("bits", "embed_bits"):
            if not 2 <= getattr(self, key) <= 8:
                raise UserError(f"quant.{key}={getattr(self, key)}: expected 2 to 8")
        for key in ("clip_sigmas", "embed_clip_sigmas", "min_elements"):
            if not getattr(self, key) > 0:
                raise UserError(f"quant.{key}={getattr(self, key)}: expected a number above 0")

    def quantizes(self, name: str, weight: Tensor) -> bool:
        """Whether a tensor is a matrix of a layer or the embedding, and large enough."""
        is_matrix = weight.ndim == 2 and name.endswith(".weight")
        return is_matrix and weight.numel() >= self.min_elements

    def bits_of(self, name: str) -> int:
        return self.embed_bits if name == EMBEDDING else self.bits

    def row_scales(self, name: str, weight_RC: Tensor) -> Tensor:
        """Step of the grid of each row, fp16 [R], always above 0 and finite."""
        sigmas = self.embed_clip_sigmas if name == EMBEDDING else self.clip_sigmas
        weight_RC = weight_RC.float()
        end_R = sigmas * weight_RC.std(dim=1, correction=min(1, weight_RC.size(1) - 1))
        # A (nearly) constant row lies beyond a few of its own standard deviations: there the
        # largest weight ends the grid.
        within_R = weight_RC.mean(dim=1).abs() <= end_R
        end_R = torch.where(within_R, end_R, weight_RC.abs().amax(dim=1))
        return (end_R / largest_code(self.bits_of(name))).clamp(SMALLEST_FP16, FP16_MAX).half()


def largest_code(bits: int) -> int:
    return 2 ** (bits - 1) - 1


def round_to_codes(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Nearest point of the grid, as a float; weights beyond its end become its last point."""
    limit = largest_code(bits)
    return (weight / scale).round().clamp(-limit, limit)


def quantize_tensors(
    weights: dict[str, Tensor],
    clip: SDClip,
    codes_of: Callable[[str, Tensor, Tensor], Tensor],
) -> Codes:
    """Every tensor as codes or fp16.

    Args:
        codes_of: (name, weight_RC, scale_R) -> codes_RC.

    Raises:
        RunFailed: a weight is not a finite number.
    """
    tensors: dict[str, IntTensor | Tensor] = {}
    with track("quantize", len(weights), "tensor") as bar:
        for name, weight in weights.items():
            if not torch.isfinite(weight).all():
                raise RunFailed(
                    f"{name} holds NaN or infinity, there is nothing to quantize: training has "
                    "diverged; lower the learning rates (optim, ttt.lr)"
                )
            if clip.quantizes(name, weight):
                scale_R = clip.row_scales(name, weight)
                codes_RC = codes_of(name, weight, scale_R).to(torch.int8)
                tensors[name] = IntTensor(codes_RC.cpu(), scale_R.cpu(), clip.bits_of(name))
            else:
                tensors[name] = to_fp16(weight)
            bar.advance(note=name)
    return Codes(tensors)
