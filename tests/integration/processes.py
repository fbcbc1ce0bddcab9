"""Processes of a command under test: found by a mark in their environment, followed by their files.

Looks into /proc, so Linux only.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pgolf.events import read_events
from tests.integration.command import Workspace

MARK = "PGOLF_TEST_MARK"


class Running:
    """A command in a session of its own, and every process that comes from it."""

    def __init__(self, workspace: Workspace, command: list[str], log: Path, **more: str) -> None:
        self.mark, self.log = uuid.uuid4().hex, log
        self.launcher: subprocess.Popen[bytes] = workspace.start(
            command, log, **{MARK: self.mark, **more}
        )

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def folder(self) -> Path | None:
        found = re.search(r"^run \S+ in (.+)$", self.output, re.MULTILINE)
        return Path(found[1]) if found else None

    def events(self, kind: str) -> list[dict[str, Any]]:
        path = self.folder / "events.jsonl" if self.folder else None
        if path is None or not path.exists():
            return []
        return [event for event in read_events(path) if event["event"] == kind]

    def pids(self) -> list[int]:
        """All living processes of the command, the launcher among them."""
        return [int(path.name) for path in Path("/proc").glob("[0-9]*") if self._owns(path)]

    def _owns(self, path: Path) -> bool:
        with suppress(OSError):
            if (path / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return False
            return f"{MARK}={self.mark}".encode() in (path / "environ").read_bytes().split(b"\0")
        return False

    def wait_until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Poll; fails with the command's output when it ends or the time is over."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not in {seconds} s:\n{self.output}"
            assert self.launcher.poll() is None, f"ended early:\n{self.output}"
            time.sleep(0.05)

    def gone(self, seconds: float = 30.0) -> bool:
        """Whether every process ends within the time."""
        end = time.monotonic() + seconds
        while self.pids():
            if time.monotonic() > end:
                return False
            self.launcher.poll()
            time.sleep(0.05)
        return True

    def kill(self) -> None:
        """kill -9 of everything at once, as when a machine goes down."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.launcher.wait()
