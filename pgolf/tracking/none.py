"""`tracking=none`: events stay in the run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


class NoTracking:
    """Takes everything and does nothing.

    Args:
        say: what other sinks tell their user through; there is nothing to tell.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        del say

    def check(self) -> None:
        """Nothing can be wrong."""

    def start(self, run_id: str, name: str, config: dict[str, Any], run_folder: Path) -> None:
        """Nothing to start."""

    def log(self, event: dict[str, Any]) -> None:
        """Drop the event."""

    def finish(self, result: dict[str, Any] | None) -> None:
        """Nothing to finish."""
