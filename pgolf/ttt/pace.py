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
        total: the work of scoring the whole text, in any unit whose cost is even: positions, or
            tokens of all windows.
        reserve_s: seconds to leave beyond those that scoring the rest is expected to take.
    """

    def __init__(self, clock: Clock, world: World, total: float, reserve_s: float) -> None:
        self.total, self.reserve_s = total, reserve_s
        self.done = self.longest_adaptation_s = 0.0
        self.stopped = False
        self._clock, self._world = clock, world
        self._measured = self._measured_s = 0.0
        self._left_s = self.left_s()

    def left_s(self) -> float:
        """Seconds left of the evaluation budget, the same number on every rank."""
        self._world.synchronize()
        left = torch.tensor(self._clock.left_s(BUDGET), dtype=torch.float64)
        return float(self._world.broadcast_(left))

    def lap_s(self) -> float:
        """Seconds since the last question; not a number without a limit."""
        before, self._left_s = self._left_s, self.left_s()
        return before - self._left_s

    def expect(self, work: float, seconds: float) -> None:
        """Count a measurement of scoring that is not part of the text, such as a warm-up's."""
        self._measured, self._measured_s = self._measured + work, self._measured_s + seconds

    def seconds_of(self, work: float) -> float:
        """What scoring has cost so far, for so much of it."""
        return self._measured_s / self._measured * work

    def after_scoring(self, done: float, share: float = 1.0) -> bool:
        """Account for the score just made; whether there is time to adapt before the next.

        Args:
            done: work scored so far.
            share: part of the seconds that scoring alone would have taken; below 1 for a method
                that learns in the midst of it.
        """
        self.expect(done - self.done, share * self.lap_s())
        self.done = done
        return self.has_time(self.longest_adaptation_s)

    def after_adapting(self) -> None:
        """Account for the adaptation just made."""
        self.longest_adaptation_s = max(self.longest_adaptation_s, self.lap_s())

    def has_time(self, adaptation_s: float) -> bool:
        """Whether an adaptation of so many seconds leaves enough for scoring the rest."""
        needed_s = adaptation_s + SLACK * self.seconds_of(self.total - self.done) + self.reserve_s
        # Without a limit needed_s is not a number, and no comparison with it holds.
        self.stopped = self.stopped or self._left_s < needed_s
        return not self.stopped
