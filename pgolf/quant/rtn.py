"""`quant=rtn`: round to nearest on the grid of SDClip, without calibration."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from pgolf.distributed import World
from pgolf.quant.codes import Codes
from pgolf.quant.sdclip import SDClip, quantize_tensors, round_to_codes


class RTNQuantizer:
    """Each weight becomes the nearest point of its row's grid.

    Args:
        bits, embed_bits, clip_sigmas, embed_clip_sigmas, min_elements: see `SDClip`.

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
        self.clip = SDClip(bits, embed_bits, clip_sigmas, embed_clip_sigmas, min_elements)

    def calibrate(
        self, model: nn.Module, batches: Iterable[Tensor], world: World
    ) -> dict[str, Tensor]:
        return {}

    def quantize(self, weights: dict[str, Tensor], statistics: dict[str, Tensor]) -> Codes:
        def codes_of(name: str, weight_RC: Tensor, scale_R: Tensor) -> Tensor:
            scale_R1 = scale_R.float()[:, None]
            return round_to_codes(weight_RC.float(), scale_R1, self.clip.bits_of(name))

        return quantize_tensors(weights, self.clip, codes_of)
