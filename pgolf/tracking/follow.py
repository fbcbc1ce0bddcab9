"""Forwards events to trackers from the launcher, so that training processes never wait for one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from pgolf.say import TERMINAL

if TYPE_CHECKING:  # protocols imports numpy
    from pgolf.protocols import TrackingSink

POLL_S = 0.25


class EventFollower:
    """Reads `events.jsonl` as it grows and hands every event to every sink, in order.

    A sink that raises is dropped with one warning; the run goes on.

    Args:
        path: the file, which need not exist yet.
        sinks: receivers, already started.
        say: where a warning goes.
    """

    def __init__(
        self, path: Path, sinks: Sequence[TrackingSink], say: Callable[[str], None] = TERMINAL
    ) -> None:
        self._path, self._sinks, self._say = path, list(sinks), say
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="event-follower", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Forward what was written until now and end; False when that took too long."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def __enter__(self) -> EventFollower:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _follow(self) -> None:
        while not self._path.exists():
            if self._stopping.wait(POLL_S) and not self._path.exists():
                return
        with open(self._path, "rb") as file:
            rest = b""
            while True:
                # Asked before reading: whatever was written before stop() is then still read.
                last = self._stopping.is_set()
                rest = self._forward(file, rest)
                if last:
                    return
                self._stopping.wait(POLL_S)

    def _forward(self, file: IO[bytes], rest: bytes) -> bytes:
        """Send all whole lines from here on; returns the unfinished one at the end."""
        *lines, rest = (rest + file.read()).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:  # a line cut short by a killed writer
                continue
            if isinstance(event, dict):
                self._send(event)
        return rest

    def _send(self, event: dict[str, Any]) -> None:
        for sink in list(self._sinks):
            try:
                sink.log(event)
            except Exception as error:
                self._sinks.remove(sink)
                self._say(f"tracking: {type(sink).__name__} failed and is left out: {error}")
