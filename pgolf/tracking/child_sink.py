"""A tracker whose library runs in a process of its own: it may be slow to import, block or die."""

from __future__ import annotations

import importlib.util
import json
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pgolf.errors import UserError
from pgolf.tracking.wandb_process import WandbProcess

# On a busy machine a library itself takes seconds to import.
START_TIMEOUT_S = 60.0


class ChildTracking:
    """Hands messages to a script that reads JSON lines (as wandb_child.py); never waits for it.

    Args:
        say: where the one line about where the run is tracked goes, and a warning if there is one.
        library: what the script imports.
        child: the script.
        finish_timeout_s: longest wait for it when the run ends.
        more: environment variables for the script; None takes one away.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        library: str,
        child: Path,
        finish_timeout_s: float,
        more: dict[str, str | None] | None = None,
    ) -> None:
        self._say, self.library, self.child = say, library, child
        self.finish_timeout_s, self._more = finish_timeout_s, more or {}
        self._messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._process: WandbProcess | None = None
        self._thread: threading.Thread | None = None
        self._over = threading.Event()

    def check(self) -> None:
        """Raises UserError where the library is not installed."""
        if importlib.util.find_spec(self.library) is None:
            raise UserError(
                f"tracking needs {self.library}, which is not installed: pip install "
                f"'pgolf[tracking]', or use tracking=none"
            )

    def begin(self, request: dict[str, Any], log: Path, where: str) -> None:
        """Start the script in the background; returns at once.

        Args:
            request: the first line that it is given.
            log: file for what it prints.
            where: what the user is told when it runs.
        """
        # What a configuration holds may change while the thread has not read it yet.
        first = json.loads(json.dumps(request, default=str))
        self._thread = threading.Thread(
            target=self._serve,
            args=(first, log, where),
            name=f"{self.library}-tracking",
            daemon=True,
        )
        self._thread.start()

    def put(self, message: dict[str, Any]) -> None:
        """Hand over a message; returns at once."""
        self._messages.put(message)

    def end(self, last: dict[str, Any]) -> None:
        """Hand over the last message and wait for the script, for a limited time."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._messages.put({**last, "finish": True})
        thread.join(self.finish_timeout_s)
        if thread.is_alive():
            self._over.set()
            self._say(
                f"tracking: {self.library} did not end within {self.finish_timeout_s:g} s and was "
                "stopped; the run folder has everything"
            )
            if self._process is not None:
                self._process.kill()

    def _serve(self, request: dict[str, Any], log: Path, where: str) -> None:
        try:
            fault = self._forward(request, log, where)
        except Exception as error:  # the run goes on whatever it is
            fault = str(error) or type(error).__name__
        if fault is not None and not self._over.is_set():
            self._say(f"tracking: {self.library} failed ({fault}); the run goes on without it")

    def _forward(self, request: dict[str, Any], log: Path, where: str) -> str | None:
        """Send everything until the last message; returns what went wrong, or None."""
        process = self._process = WandbProcess(log, self.child, self._more)
        try:
            answer = process.open_run(request, START_TIMEOUT_S)
            if not answer["ok"]:
                return str(answer["reason"]).strip().splitlines()[0]
            self._say(f"tracking: {self.library}, {where}")
            while True:
                message = self._messages.get()
                process.send(message)
                if "finish" in message:
                    break
            code = process.wait()
            return None if code == 0 else f"its process ended with code {code}, see {log}"
        except OSError:
            return f"its process ended, see {log}"
        finally:
            process.kill()
