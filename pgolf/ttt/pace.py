"""When to stop adapting: the seconds that are left must do for scoring the rest."""

from __future__ import annotations

import torch

from pgolf.clock import Clock
from pgolf.distributed import World

BUDGET = "evaluate"
# Scoring slows down as a GPU warms up, and the last part may be dealt less evenly.
SLACK = 1.05


class Pace:
    """Decides after each part whether there is time to adapt; what is stopped stays stopped.

    All ranks decide alike, by the clock of rank 0. A budget without a limit never ends.

    Args:
        num_positions: of the whole text.
        reserve_s: seconds to leave beyond those that scoring the rest is expected to take.
    """

    def __init__(self, clock: Clock, world: World, num_positions: int, reserve_s: float) -> None:
        self.num_positions, self.reserve_s = num_positions, reserve_s
        self.scoring_s = self.longest_adaptation_s = 0.0
        self.stopped = False
        self._clock, self._world = clock, world
        self._left_s = self.left_s()

    def left_s(self) -> float:
        """Seconds left of the evaluation budget, the same number on every rank."""
        self._world.synchronize()
        left = torch.tensor(self._clock.left_s(BUDGET), dtype=torch.float64)
        return float(self._world.broadcast_(left))

    def after_scoring(self, num_scored: int) -> bool:
        """Account for the score just made; whether there is time to adapt before the next.

        Args:
            num_scored: positions scored so far.
        """
        before, self._left_s = self._left_s, self.left_s()
        self.scoring_s += before - self._left_s
        rest_s = self.scoring_s / num_scored * (self.num_positions - num_scored)
        needed_s = self.longest_adaptation_s + SLACK * rest_s + self.reserve_s
        # Without a limit needed_s is not a number, and no comparison with it holds.
        self.stopped = self.stopped or self._left_s < needed_s
        return not self.stopped

    def after_adapting(self) -> None:
        """Account for the adaptation just made."""
        before, self._left_s = self._left_s, self.left_s()
        self.longest_adaptation_s = max(self.longest_adaptation_s, before - self._left_s)
