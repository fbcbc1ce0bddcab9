"""The launcher's handle on a process that talks to a tracker's library: wandb's, or another's."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from pgolf.provenance import environment_with

CHILD = Path(__file__).with_name("wandb_child.py")
# wandb's reports about itself go over the network even offline, and delay its end where that hangs.
QUIET = {"WANDB_ERROR_REPORTING": "false"}


class WandbProcess:
    """A running `wandb_child.py`; every method returns within the time it is given.

    Args:
        log: file for what it prints.
        child: another script that answers in the same way.
        more: further environment variables; None takes one away.

    Raises:
        OSError: the process cannot be started or the log not be written.
    """

    def __init__(
        self, log: Path, child: Path | None = None, more: dict[str, str | None] | None = None
    ) -> None:
        changed = {**environment_with(QUIET), **(more or {})}
        environment = {key: value for key, value in changed.items() if value is not None}
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as output:
            self._process = subprocess.Popen(
                # -P: the folder of the script must not shadow other modules.
                [sys.executable, "-P", str(child or CHILD)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=environment,
                start_new_session=True,
            )

    def open_run(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send the request and wait for the answer; see wandb_child.py for both."""
        self.send(request)
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        if not ready:
            return {"ok": False, "reason": f"no answer within {timeout_s:g} s"}
        try:
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        except ValueError:
            return {"ok": False, "reason": "its process ended without an answer"}
        return answer

    def send(self, message: dict[str, Any]) -> None:
        """Hand over a message; waits while the process is busy, until it is killed.

        Raises:
            OSError: the process has ended.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message, default=str).encode() + b"\n")
        self._process.stdin.flush()

    def wait(self) -> int:
        """Wait for its end, uploads included; returns its exit code, not 0 when it was killed."""
        return self._process.wait()

    def kill(self) -> None:
        """End it now, if it still runs; wandb's own service ends with it."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError, ValueError):
                if pipe is not None:
                    pipe.close()
