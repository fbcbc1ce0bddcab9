"""`quant=gptq_sdclip`: GPTQ (arXiv 2210.17323) on the grid of SDClip, as in PR #1738."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from pgolf.distributed import World
from pgolf.errors import UserError
from pgolf.quant.codes import Codes
from pgolf.quant.engine import quantize_weights
from pgolf.quant.hessian import needed_hessians
from pgolf.quant.sdclip import sdclip_rules


class GPTQQuantizer:
    """Rounds a matrix column by column; later columns make up for the errors of earlier ones.

    Args:
        bits, embed_bits, clip_sigmas, embed_clip_sigmas, min_elements: see `sdclip_rules`.
        block_size: columns after which the errors are passed on to all later ones; changes speed
            alone.
        damping: added to the Hessian's diagonal, as a part of its mean.
        calibration_batches: batches of training text that the Hessians come from.

    Raises:
        UserError: a value outside its range.
    """

    def __init__(
        self,
        *,
        bits: int,
        embed_bits: int,
        clip_sigmas: float,
        embed_clip_sigmas: float,
        min_elements: int,
        block_size: int = 32,
        damping: float = 0.01,
        calibration_batches: int,
    ) -> None:
        if block_size < 1:
            raise UserError(f"quant.block_size={block_size}: expected 1 or more")
        if not damping >= 0:
            raise UserError(f"quant.damping={damping}: expected 0 or more")
        if calibration_batches < 1:
            raise UserError(
                f"quant.calibration_batches={calibration_batches}: GPTQ needs at least 1 "
                "(scale.calibration_batches=...); quant=rtn needs none"
            )
        self.rules = sdclip_rules(
            bits, embed_bits, clip_sigmas, embed_clip_sigmas, min_elements,
            rounding="gptq", block_size=block_size, damping=damping,
        )  # fmt: skip
        self.calibration_batches = calibration_batches

    def quantize(
        self,
        model: nn.Module,
        batches: Iterable[Tensor],
        world: World,
        size_of: Callable[[Codes], int],
    ) -> Codes:
        """Codes of all weights; see `pgolf.protocols.Quantizer`.

        Raises:
            RunFailed: a weight or a Hessian is not finite.
        """
        hessians = needed_hessians(model, batches, self.calibration_batches, world, self.rules)
        return quantize_weights(model.state_dict(), hessians, self.rules, world)
