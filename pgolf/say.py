"""What a run tells its user: a line on the terminal and the same, with the time, in log.txt."""

from __future__ import annotations

import sys
import time
from pathlib import Path


class Say:
    """`say(text)` prints and keeps a line; ranks other than the main one are silent.

    Args:
        log: the run's log.txt, or None to print only.
        show: False on every rank but the main one.
    """

    def __init__(self, log: Path | None, show: bool = True) -> None:
        self.log, self.show = log, show

    def __call__(self, text: str) -> None:
        if not self.show:
            return
        print(text, file=sys.stderr, flush=True)
        self.keep(text)

    def keep(self, text: str) -> None:
        """Write to the log only, e.g. a traceback."""
        if self.log is not None:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(f"{stamp}  {text}\n")


TERMINAL = Say(None)  # for those who are not told where else to say it
