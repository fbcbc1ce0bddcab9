"""`quant=custom` and `quant=lqer`: every group of tensors by a rule of its own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from pgolf.distributed import World
from pgolf.errors import UserError
from pgolf.quant.codes import Codes
from pgolf.quant.engine import quantize_weights
from pgolf.quant.hessian import needed_hessians
from pgolf.quant.rules import parse_rules


class CustomQuantizer:
    """Quantizes by rules; the first whose pattern fits a name counts, other tensors stay fp16.

    Args:
        rules: mappings with the keys of `pgolf.quant.rules.Rule`; only `pattern` has to be there.
        calibration_batches: batches of training text that the Hessians come from; 0 if no rule
            needs any.

    Raises:
        UserError: no rule, an unknown key, a wrong value, or no calibration where a rule needs it.
    """

    def __init__(self, *, rules: list[dict[str, Any]], calibration_batches: int) -> None:
        self.rules = parse_rules("quant.rules", rules)
        needing = [rule.pattern for rule in self.rules if rule.needs_hessian]
        if needing and calibration_batches < 1:
            raise UserError(
                f"quant.calibration_batches={calibration_batches}: the rule for {needing[0]} needs "
                "at least 1 (scale.calibration_batches=...); rounding=nearest on the grids sdclip, "
                "absmax and uniform needs none"
            )
        self.calibration_batches = calibration_batches if needing else 0

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
        if world.is_main:
            self._warn_of_idle_rules(list(model.state_dict()))
        hessians = needed_hessians(model, batches, self.calibration_batches, world, self.rules)
        return quantize_weights(model.state_dict(), hessians, self.rules, world)

    def _warn_of_idle_rules(self, names: list[str]) -> None:
        for index, rule in enumerate(self.rules):
            if not any(rule.fits(name) for name in names):
                warnings.warn(
                    f"quant.rules[{index}].pattern={rule.pattern} fits no tensor of this model",
                    stacklevel=3,
                )
