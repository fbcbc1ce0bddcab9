"""What a quantizer produces: integer codes with a scale per row, or plain fp16, by name.

Legend: R rows, C columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FP16_MAX = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class IntTensor:
    """A matrix as small integers: weight = code * scale of its row.

    Args:
        codes: int8 [R, C], from -(2^(bits-1) - 1) to 2^(bits-1) - 1.
        scales: fp16 [R], above 0.
        bits: 2 to 8.
    """

    codes: Tensor
    scales: Tensor
    bits: int

    def dequantize(self) -> Tensor:
        """The weights, float32 [R, C]."""
        return self.codes.float() * self.scales.float()[:, None]


@dataclass(frozen=True)
class Codes:
    """All weights of a model, on the CPU, in the order of its state dict.

    Args:
        tensors: an `IntTensor`, or a fp16 tensor that was passed through.
    """

    tensors: dict[str, IntTensor | Tensor]

    def weights(self) -> dict[str, Tensor]:
        """Every tensor dequantized to float32."""
        return {
            name: value.dequantize() if isinstance(value, IntTensor) else value.float()
            for name, value in self.tensors.items()
        }


def to_fp16(weight: Tensor) -> Tensor:
    """A fp16 copy on the CPU; what fp16 cannot hold becomes its largest value, not infinity."""
    return weight.detach().float().clamp(-FP16_MAX, FP16_MAX).half().cpu()
