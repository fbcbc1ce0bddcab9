"""What a quantizer produces: integer codes with their scales, or plain fp16, by name.

Legend: R rows, C columns, G groups of columns, K rank of a correction.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pgolf.quant.trellis_decode import reconstruct

FP16_MAX = torch.finfo(torch.float16).max
SMALLEST_FP16 = 2.0**-24  # the least subnormal: a scale below it would round to 0
EXPONENT_STEPS = 8  # column scales are powers of 2^(1/8)


@dataclass(frozen=True)
class IntTensor:
    """A matrix as small integers: weight = number * scale of its row (* scale of its column).

    Args:
        codes: int8 [R, C], from -(2^(bits-1) - 1) to 2^(bits-1) - 1.
        scales: fp16 [R], or [R, G] of G groups of columns; above 0: the distance of two codes.
        bits: 2 to 8.
        column_exponents: int8 [C], a column's scale is 2^(exponent/8); None is 1 for all.
        states: 0, the code is the number; 4 to 256, a power of 2, it is trellis-coded, and the
            number is the code plus or minus 1/4 (see `pgolf.quant.trellis_decode`).
        correction: plain matrices [R, K] and [K, C], of the same bits, whose product is added.
        group_columns: columns that share a scale of a row, the last group may have fewer; 0: all.
    """

    codes: Tensor
    scales: Tensor
    bits: int
    column_exponents: Tensor | None = None
    states: int = 0
    correction: tuple[IntTensor, IntTensor] | None = None
    group_columns: int = 0

    def dequantize(self) -> Tensor:
        """The weights, float32 [R, C], the same on every machine."""
        steps = steps_of(self.scales, self.group_columns, self.codes.size(1))
        weight_RC = reconstruct(self.codes, self.states) * steps.float()
        if self.column_exponents is not None:
            weight_RC *= column_scales(self.column_exponents)
        if self.correction is not None:
            left, right = self.correction
            # With 53 bits the sum of such short numbers is exact, whatever its order.
            inner_KC = right.scales.double()[:, None] * right.codes.double()
            product_RC = left.codes.double() @ inner_KC * left.scales.double()[:, None]
            weight_RC += product_RC.float()
        return weight_RC


def steps_of(scales: Tensor, group_columns: int, num_columns: int) -> Tensor:
    """The scales where their weights stand: [R, 1] of rows, [R, C] of groups of columns."""
    if not group_columns:
        return scales[:, None]
    return scales.repeat_interleave(group_columns, dim=1)[:, :num_columns]


def column_scales(exponents_C: Tensor) -> Tensor:
    """2^(exponent/8), float32 [C], on the device of the exponents."""
    values = [2.0 ** (exponent / EXPONENT_STEPS) for exponent in exponents_C.tolist()]
    return torch.tensor(values, dtype=torch.float32, device=exponents_C.device)


@dataclass(frozen=True)
class Codes:
    """All weights of a model, on the CPU, in the order of its state dict.

    Args:
        tensors: an `IntTensor`, or a fp16 tensor that was passed through.
        losses: nats a token that a tensor's codes add, by name, where they were measured: for the
            report, not part of an artifact.
    """

    tensors: dict[str, IntTensor | Tensor]
    losses: dict[str, float] = field(default_factory=dict)

    def weights(self) -> dict[str, Tensor]:
        """Every tensor dequantized to float32."""
        return {
            name: value.dequantize() if isinstance(value, IntTensor) else value.float()
            for name, value in self.tensors.items()
        }


def to_fp16(weight: Tensor) -> Tensor:
    """A fp16 copy on the CPU; what fp16 cannot hold becomes its largest value, not infinity."""
    return weight.detach().float().clamp(-FP16_MAX, FP16_MAX).half().cpu()
