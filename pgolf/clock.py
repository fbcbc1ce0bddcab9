"""Budgets of seconds, owned by one object: nobody else in a run reads a timer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Clock:
    """Measures named phases and charges each to a named budget.

    Args:
        limits: seconds of each budget, e.g. {"train": 600.0, "evaluate": 600.0}. A phase may be
            charged to a name without a limit, such as "diagnostic".
        synchronize: waits until the device is idle; called at both edges of a phase.
        now: the timer, in seconds; a parameter so that tests can move it.
    """

    def __init__(
        self,
        limits: dict[str, float],
        synchronize: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = dict(limits)
        self._synchronize, self._now = synchronize, now
        self._seconds: dict[str, float] = {}
        self._budget_of: dict[str, str] = {}
        self._running: tuple[str, float] | None = None

    @contextmanager
    def phase(self, name: str, budget: str) -> Iterator[None]:
        """Charge the time inside the block to `budget` under `name`; phases do not nest."""
        assert self._running is None, f"phase {name} inside phase {self._running}"
        self._synchronize()
        self._budget_of[name] = budget
        self._running = (name, self._now())
        try:
            yield
        finally:
            self._synchronize()
            self._seconds[name] = self.seconds(name)
            self._running = None

    def add(self, name: str, budget: str, seconds: float) -> None:
        """Charge seconds that were used before: by a killed run, or by a stage that is reused."""
        self._budget_of[name] = budget
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def seconds(self, name: str) -> float:
        """Seconds of a phase so far, a running one included."""
        done = self._seconds.get(name, 0.0)
        if self._running is not None and self._running[0] == name:
            done += self._now() - self._running[1]
        return done

    def charged_s(self, budget: str) -> float:
        names = [name for name, owner in self._budget_of.items() if owner == budget]
        return sum(self.seconds(name) for name in names)

    def left_s(self, budget: str) -> float:
        """Seconds left of a budget; infinite for one without a limit."""
        return self.limits.get(budget, float("inf")) - self.charged_s(budget)
