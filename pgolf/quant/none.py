"""`quant=none`: every weight in fp16."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from pgolf.distributed import World
from pgolf.quant.codes import Codes, to_fp16


class NoQuantizer:
    """Rounds to fp16, two bytes a parameter: what the other options are compared with."""

    calibration_batches = 0

    def quantize(
        self,
        model: nn.Module,
        batches: Iterable[Tensor],
        world: World,
        size_of: Callable[[Codes], int],
    ) -> Codes:
        return Codes({name: to_fp16(weight) for name, weight in model.state_dict().items()})
