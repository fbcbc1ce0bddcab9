"""events.jsonl: one JSON line for everything measured. All views of a run are made from it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class EventLog:
    """Appends one line an event; a log without a path drops them (every rank but the main one).

    A line is written with one unbuffered `write` on a file opened for appending, so lines of the
    launcher and of the workers never mix within a line.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def emit(self, event: str, stage: str, **values: Any) -> None:
        """Write `{"time": unix seconds, "event": ..., "stage": ..., **values}`.

        Metric names are namespaced: `train/loss`, `val/bpb`, `perf/tokens_per_s`.
        """
        if self.path is None:
            return
        row = {"time": round(time.time(), 3), "event": event, "stage": stage, **values}
        line = json.dumps(row, ensure_ascii=False) + "\n"
        with open(self.path, "ab", buffering=0) as file:
            file.write(line.encode())


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a file; an unfinished last line (a killed writer) is passed over."""
    # A writer may be killed inside a character: such a line is unfinished, not an error.
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.endswith("\n") and line.strip():
                try:
                    event = json.loads(line)
                except json.JSONDecodeError:
                    continue
                if isinstance(event, dict):
                    yield event
