"""`quant=none`: every weight in fp16."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from pgolf.distributed import World
from pgolf.quant.codes import Codes, to_fp16


class NoQuantizer:
    """Rounds to fp16, two bytes a parameter: what the other options are compared with."""

    calibration_batches = 0

    def calibrate(
        self, model: nn.Module, batches: Iterable[Tensor], world: World
    ) -> dict[str, Tensor]:
        return {}

    def quantize(self, weights: dict[str, Tensor], statistics: dict[str, Tensor]) -> Codes:
        return Codes({name: to_fp16(weight) for name, weight in weights.items()})
