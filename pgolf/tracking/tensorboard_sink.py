"""`tracking=tensorboard`: a run's curves as event files for TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pgolf.say import TERMINAL
from pgolf.tracking.child_sink import ChildTracking
from pgolf.tracking.metrics import AXES, metrics_of, summary_of

CHILD = Path(__file__).with_name("tensorboard_child.py")


class TensorboardTracking:
    """Sends events to a process that writes event files; config and figures as hyperparameters.

    Args:
        say: where the one line about where the run is tracked goes, and a warning if there is one.
        folder: where a folder for each run is made; None takes the run's own.
        finish_timeout_s: longest wait when the run ends.
    """

    def __init__(
        self,
        say: Callable[[str], None] = TERMINAL,
        *,
        folder: str | None = None,
        finish_timeout_s: float = 30.0,
    ) -> None:
        self._folder = folder
        self._child = ChildTracking(say, "tensorboard", CHILD, finish_timeout_s)

    def check(self) -> None:
        """Raises UserError where tensorboard is not installed."""
        self._child.check()

    def start(self, run_id: str, name: str, config: dict[str, Any], run_folder: Path) -> None:
        """Begin a run in the background; returns at once."""
        own = run_folder.resolve() / "tensorboard"
        folder = own if self._folder is None else Path(self._folder).resolve() / name / run_id
        self._child.begin(
            {"folder": str(folder), "config": dict(flat(config))},
            own / "pgolf.log",
            f"look at it with: tensorboard --logdir {folder.parent if self._folder else folder}",
        )

    def log(self, event: dict[str, Any]) -> None:
        """Hand over an event; returns at once."""
        curves, summary = metrics_of(event)
        points = [[name, value, step_of(name, curves)] for name, value in numbers(curves)]
        points += [[name, value, 0] for name, value in numbers(summary)]
        if points:
            self._child.put({"scalars": points})

    def finish(self, result: dict[str, Any] | None) -> None:
        """Hand over the result (None: the run failed) and wait for the rest, for a limited time."""
        figures = {} if result is None else summary_of(result)
        points = [[name, value, 0] for name, value in numbers(figures)]
        self._child.end({"scalars": points, "success": result is not None})


def numbers(values: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers among them, truth values as 0 and 1: TensorBoard draws nothing else."""
    for name, value in values.items():
        if isinstance(value, int | float):
            yield name, float(value)


def step_of(name: str, curves: dict[str, Any]) -> int:
    """The whole number that a metric is drawn over, by `metrics.AXES`."""
    for pattern, axis in AXES.items():
        if fnmatch(name, pattern) and axis in curves:
            return int(curves[axis])
    return int(curves.get("step", 0))


def flat(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`group.key` and value of everything in a configuration; lists as text."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str | int | float) else str(value)
