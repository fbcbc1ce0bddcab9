"""`ttt=none`: no test-time training."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import nn

from pgolf.clock import Clock
from pgolf.distributed import World
from pgolf.events import EventLog
from pgolf.score import Score
from pgolf.ttt.adapted import Adapted

if TYPE_CHECKING:
    from pgolf.data.stream import TokenStream


class NoTTT:
    """Leaves the model as it is."""

    source = "validation"

    def adapt(
        self,
        model: nn.Module,
        stream: TokenStream,
        world: World,
        clock: Clock,
        events: EventLog,
        evaluate: Callable[[nn.Module], Score],
    ) -> Adapted:
        return Adapted(True, "no test-time training")
