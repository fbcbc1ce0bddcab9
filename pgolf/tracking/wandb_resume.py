"""Which W&B run a run's events belong to: its own, or that of the stopped run which it continues.

The same command after a kill makes a new run folder, whose training goes on from a checkpoint. On
W&B both are one run: the second has the first's id, leaves out what the first has sent, and sends
what the first wrote too late to send: training that goes on behind it does not write it again.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pgolf.events import read_events
from pgolf.tracking.metrics import AXES, Values, metrics_of

RECORD = "wandb/run.json"
ENDS = "wandb/ends.json"  # how far each axis was sent, by the process that sent it
SAME_FACTS = ("git", "packages")  # of both provenances
# Where that process was killed, too: what the run wrote last may not have been sent, and a point
# that is sent twice is better than a gap.
UNSURE_S = 2.0


@dataclass(frozen=True)
class WandbRun:
    """A run on W&B, this process's until `release`.

    Args:
        id: of the run.
        resumed: an earlier run folder has begun it.
        sent: largest value of each axis that was sent before.
        unsent: points beyond these that earlier run folders have, each once, in their order.
        lock: open file that is locked while this process lives.
    """

    id: str
    resumed: bool
    sent: dict[str, float]
    unsent: list[Values]
    lock: IO[str]

    def is_new(self, curves: Values) -> bool:
        """Whether a point of curves lies beyond all that were sent before."""
        return _is_beyond(self.sent, curves)

    def catch_up(self) -> list[Values]:
        """The points that nobody has sent; from here on they count as sent."""
        for curves in self.unsent:
            self.sent.update(_place_of(curves))
        return self.unsent

    def release(self) -> None:
        """Leave it to whoever continues it."""
        self.lock.close()


def claim(run_folder: Path, own_id: str) -> WandbRun:
    """The W&B run of a new run folder, which has its config.yaml and provenance.json already.

    Args:
        own_id: id of a run of its own.

    Raises:
        OSError: the folder takes no files.
    """
    found, sent = own_id, dict[str, float]()
    earlier = _stopped_before(run_folder)
    if earlier is not None:
        folder, record = earlier
        found, sent = str(record["id"]), dict(record["sent"])
        ends = _ends(folder)
        for axis, value in _points(folder) if ends is None else ends:
            sent[axis] = max(value, sent.get(axis, value))
    unsent = _unsent(folders_of(found, run_folder.parent), sent)
    path = run_folder / RECORD
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = open(path, "w", encoding="utf-8")  # noqa: SIM115 - it stays open
    fcntl.flock(lock, fcntl.LOCK_EX)
    json.dump({"id": found, "sent": sent}, lock)
    lock.flush()
    return WandbRun(found, earlier is not None, sent, unsent, lock)


def run_id_of(run_folder: Path) -> str | None:
    """The W&B run that a run folder belongs to; None where it does not say."""
    try:
        record = json.loads((run_folder / RECORD).read_text(encoding="utf-8"))
        return str(record["id"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def folders_of(run_id: str | None, parent: Path) -> list[Path]:
    """The run folders below `parent` of one W&B run, oldest first."""
    if run_id is None:
        return []
    folders = sorted(path.parent.parent for path in parent.glob(f"*/{RECORD}"))
    return [folder for folder in folders if run_id_of(folder) == run_id]


def _stopped_before(run_folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest run folder beside it, if it is the same run, has no result and runs no more."""
    others = sorted(path.parent.parent for path in run_folder.parent.glob(f"*/{RECORD}"))
    others = [other for other in others if other != run_folder and _same(other, run_folder)]
    if not others or (others[-1] / "result.json").is_file():
        return None
    with open(others[-1] / RECORD, encoding="utf-8") as record:
        try:
            fcntl.flock(record, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return others[-1], json.load(record)
        except (BlockingIOError, ValueError):  # it runs still, or was killed while it wrote this
            return None


def _same(other: Path, own: Path) -> bool:
    """Whether two runs have been asked for the same, of the same code."""
    try:
        facts = [
            json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
            for folder in (other, own)
        ]
        if any(facts[0].get(key) != facts[1].get(key) for key in SAME_FACTS):
            return False
        return (other / "config.yaml").read_bytes() == (own / "config.yaml").read_bytes()
    except (OSError, ValueError):
        return False


def _ends(run_folder: Path) -> list[tuple[str, float]] | None:
    """Each axis with its largest value that was sent; None where nobody was left to say so."""
    try:
        return list(json.loads((run_folder / ENDS).read_text(encoding="utf-8")).items())
    except (OSError, ValueError):
        return None


def _points(run_folder: Path) -> Iterator[tuple[str, float]]:
    """Each axis and value that a stopped run has surely sent."""
    events = list(_events(run_folder))
    end = max((event.get("time", 0.0) for event in events), default=0.0) - UNSURE_S
    for event in events:
        if event.get("time", 0.0) <= end:
            yield from _place_of(metrics_of(event)[0]).items()


def _unsent(folders: list[Path], sent: dict[str, float]) -> list[Values]:
    """Points of curves in run folders that lie beyond all that were sent, or found before them."""
    reached, found = dict(sent), []
    for folder in folders:
        for event in _events(folder):
            curves, _ = metrics_of(event)
            place = _place_of(curves)
            if place and _is_beyond(reached, curves):
                reached.update(place)
                found.append(curves)
    return found


def _events(run_folder: Path) -> Iterator[Values]:
    path = run_folder / "events.jsonl"
    return read_events(path) if path.is_file() else iter(())


def _place_of(curves: Values) -> dict[str, float]:
    """Where a point lies on each axis that it has."""
    return {axis: float(curves[axis]) for axis in {*AXES.values()} & {*curves}}


def _is_beyond(ends: dict[str, float], curves: Values) -> bool:
    return all(curves[axis] > end for axis, end in ends.items() if axis in curves)
