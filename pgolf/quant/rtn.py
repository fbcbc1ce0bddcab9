"""`quant=rtn`: round to nearest on the grid of SDClip, without calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from pgolf.distributed import World
from pgolf.quant.codes import Codes
from pgolf.quant.engine import quantize_weights
from pgolf.quant.sdclip import sdclip_rules


class RTNQuantizer:
    """Each weight becomes the nearest point of its row's grid.

    Args:
        bits, embed_bits, clip_sigmas, embed_clip_sigmas, min_elements: see `sdclip_rules`.

    Raises:
        UserError: a value outside its range.
    """

    calibration_batches = 0

    def __init__(
        self,
        *,
        bits: int,
        embed_bits: int,
        clip_sigmas: float,
        embed_clip_sigmas: float,
        min_elements: int,
    ) -> None:
        self.rules = sdclip_rules(
            bits, embed_bits, clip_sigmas, embed_clip_sigmas, min_elements, rounding="nearest"
        )

    def quantize(
        self,
        model: nn.Module,
        batches: Iterable[Tensor],
        world: World,
        size_of: Callable[[Codes], int],
    ) -> Codes:
        """Codes of all weights; see `pgolf.protocols.Quantizer`.

        Raises:
            RunFailed: a weight is not finite.
        """
        return quantize_weights(model.state_dict(), {}, self.rules, world)
