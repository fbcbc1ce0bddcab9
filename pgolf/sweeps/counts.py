"""Numbers of a command line that launchers and sweepers would answer with a traceback, or never."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def wrong_count(hydra: Mapping[str, Any]) -> str | None:
    """What is wrong with a number of cells or trials, and what is expected; None: nothing.

    Args:
        hydra: content of the node hydra.
    """
    sweeper, launcher = hydra.get("sweeper") or {}, hydra.get("launcher") or {}
    for key in ("n_trials", "n_jobs"):  # of Optuna
        value = sweeper.get(key)
        if isinstance(value, int) and value < 1:
            return f"hydra.sweeper.{key}={value}: expected 1 or more"
    if launcher.get("n_jobs") == 0:
        return (
            "hydra.launcher.n_jobs=0: expected the number of cells at the same time, or -1 for as "
            "many as there are cores"
        )
    return None
