"""Progress of long work: a rich bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as RichTask
from rich.text import Text

LINE_EVERY_S = 10.0


class _Rate(ProgressColumn):
    """Units a second, in the task's own unit."""

    def render(self, task: RichTask) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{_short(speed)} {task.fields['unit']}/s" if speed else "", style="cyan")


def _short(value: float) -> str:
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if value >= limit:
            return f"{value / limit:.1f}{suffix}"
    return f"{value:.1f}"


class Bar:
    """What the working code sees: `advance(n)` and an optional note such as `loss 3.21`."""

    def advance(self, n: float = 1, note: str = "") -> None:
        """Count n more units done; this bar, that of all ranks but the main one, shows nothing."""


class _TerminalBar(Bar):
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, n: float = 1, note: str = "") -> None:
        fields: dict[str, Any] = {"note": note} if note else {}
        self._progress.update(self._task, advance=n, **fields)


class _LineBar(Bar):
    def __init__(self, label: str, total: float, unit: str) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._done, self._note = 0.0, ""
        self._start = self._last = time.monotonic()

    def advance(self, n: float = 1, note: str = "") -> None:
        self._done += n
        self._note = note or self._note
        now = time.monotonic()
        if now - self._last >= LINE_EVERY_S:
            self._last = now
            self.print_line(now)

    def print_line(self, now: float, end: bool = False) -> None:
        elapsed = now - self._start
        rate = self._done / max(elapsed, 1e-9)
        left = max(0.0, self._total - self._done) / rate if rate > 0 else 0.0
        when = f"{elapsed:.0f} s" if end else f"{elapsed:.0f} s, {left:.0f} s left"
        share = f"{_short(self._done)}/{_short(self._total)} {self._unit}"
        note = f"  {self._note}" if self._note else ""
        text = f"{self._label}: {share}, {_short(rate)} {self._unit}/s, {when}{note}"
        print(text, file=sys.stderr, flush=True)


@contextmanager
def track(label: str, total: float, unit: str = "step", show: bool = True) -> Iterator[Bar]:
    """Show the progress of `total` units of work.

    Args:
        label: what is being done, e.g. "train".
        total: number of units in all.
        unit: name of a unit, e.g. "step", "token", "MB".
        show: False on every rank but the main one.
    """
    if not show:
        yield Bar()
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        bar = _LineBar(label, total, unit)
        yield bar
        bar.print_line(time.monotonic(), end=True)
        return
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(label, total=total, unit=unit, note="")
        yield _TerminalBar(progress, task)
