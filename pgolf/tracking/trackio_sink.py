"""`tracking=trackio`: a run's curves in a local database, without an account."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pgolf.say import TERMINAL
from pgolf.tracking.child_sink import ChildTracking
from pgolf.tracking.metrics import metrics_of, summary_of

CHILD = Path(__file__).with_name("trackio_child.py")


class TrackioTracking:
    """Sends events to a process that writes trackio's database; `trackio show` draws them.

    Args:
        say: where the one line about where the run is tracked goes, and a warning if there is one.
        project: trackio project.
        group: what runs are grouped by; None takes the run's name, so seeds lie together.
        folder: of the database; None takes TRACKIO_DIR or trackio's own default.
        finish_timeout_s: longest wait when the run ends.
    """

    def __init__(
        self,
        say: Callable[[str], None] = TERMINAL,
        *,
        project: str,
        group: str | None = None,
        folder: str | None = None,
        finish_timeout_s: float = 30.0,
    ) -> None:
        self._project, self._group = project, group
        # Local, whatever else this user's environment says.
        more: dict[str, str | None] = {
            "TRACKIO_SPACE_ID": None,
            "TRACKIO_SERVER_URL": None,
            "HF_HUB_OFFLINE": "1",
        }
        if folder is not None:
            more["TRACKIO_DIR"] = str(Path(folder).resolve())
        self._child = ChildTracking(say, "trackio", CHILD, finish_timeout_s, more)

    def check(self) -> None:
        """Raises UserError where trackio is not installed."""
        self._child.check()

    def start(self, run_id: str, name: str, config: dict[str, Any], run_folder: Path) -> None:
        """Begin a run in the background; returns at once."""
        seed = config.get("seed")
        init = {
            "project": self._project,
            # Runs are told apart by their name alone.
            "name": f"{run_id} {name}" if seed is None else f"{run_id} {name} seed {seed}",
            "group": self._group or name,
        }
        self._child.begin(
            {"init": init, "config": config},
            run_folder.resolve() / "trackio" / "pgolf.log",
            f"project {self._project}; look at it with: trackio show --project {self._project}",
        )

    def log(self, event: dict[str, Any]) -> None:
        """Hand over an event; returns at once."""
        curves, summary = metrics_of(event)
        if curves or summary:
            self._child.put({"log": {**curves, **summary}})

    def finish(self, result: dict[str, Any] | None) -> None:
        """Hand over the result (None: the run failed) and wait for the rest, for a limited time."""
        figures = {} if result is None else summary_of(result)
        self._child.end({"log": {**figures, "finished": result is not None}})
