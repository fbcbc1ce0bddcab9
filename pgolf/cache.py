"""The cache of stages as a whole: what lies there, which runs use it, what can go.

A run keeps a lock file in `cache/.running/` while it goes. Removing never touches a stage that is
being made, nor one that was used since the oldest run that still goes began.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pgolf.stage import DONE

RUNNING = ".running"
WORK, DAMAGED = ".work", ".damaged-"
# While a run that has just found an entry has not said so yet.
SLACK_S = 2.0


@dataclass
class Entry:
    """A folder of the cache: `kind` is finished, unfinished (killed) or damaged.

    Args:
        path: the folder.
        stage, key: what it holds.
        bytes: of its files; those that a run folder links to stay on the disk without it.
        made, used: Unix seconds.
        runs: run folders that used it.
    """

    path: Path
    stage: str
    key: str
    kind: str
    bytes: int
    made: float
    used: float
    runs: list[str] = field(default_factory=list)


@contextmanager
def in_use(cache: Path) -> Iterator[None]:
    """Tell those who remove entries that a run goes on, until this block or process ends."""
    folder = cache / RUNNING
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{os.getpid()}-{time.time_ns()}"
    hidden = path.with_name(f".{path.name}")
    with open(hidden, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        os.replace(hidden, path)  # only now: one that is not locked counts as a dead run's
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def oldest_running(cache: Path) -> float | None:
    """When the oldest run that still goes began, in Unix seconds; dead ones' files are removed."""
    started: list[float] = []
    for path in (cache / RUNNING).glob("[!.]*"):
        with contextlib.suppress(OSError), open(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                started.append(path.stat().st_mtime)
                continue
            path.unlink(missing_ok=True)
    return min(started, default=None)


def entries(cache: Path) -> list[Entry]:
    """All entries, by stage, the last used first."""
    found = []
    for stage in sorted(path for path in cache.glob("[!.]*") if path.is_dir()):
        for path in stage.iterdir():
            with contextlib.suppress(FileNotFoundError):  # renamed or removed meanwhile
                kind = _kind(path)
                if kind is not None:
                    found.append(_entry(path, kind))
    return sorted(found, key=lambda entry: (entry.stage, -entry.used))


def _kind(path: Path) -> str | None:
    """None where a folder is no stage's: kernels that were compiled lie there, too."""
    if not path.is_dir():
        return None
    if DAMAGED in path.name or path.name.startswith("."):  # the latter: half removed
        return "damaged"
    if path.name.endswith(WORK):
        return "unfinished"
    return "finished" if (path / DONE).is_file() else None


def _entry(path: Path, kind: str) -> Entry:
    files = _sizes_and_times(path)
    made = path.stat().st_mtime
    done = path / DONE
    used = done.stat().st_mtime if kind == "finished" else made
    if kind != "finished":
        used = max([made, *(file.st_mtime for file in files)])
    key = path.name.removesuffix(WORK).partition(DAMAGED)[0]
    return Entry(
        path,
        path.parent.name,
        key,
        kind,
        sum(file.st_size for file in files),
        made,
        max(made, used),
    )


def _sizes_and_times(folder: Path) -> list[os.stat_result]:
    """Of the files below a folder; a run that goes makes and removes some meanwhile."""
    found = []
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found.append(os.stat(os.path.join(parent, name)))
    return found


def add_runs(found: Iterable[Entry], runs: Path) -> None:
    """Note the run folders below a folder that used each entry, as their events tell."""
    by_key: dict[tuple[str, str], list[Entry]] = {}
    for entry in found:
        by_key.setdefault((entry.stage, entry.key), []).append(entry)
    for events in sorted(runs.glob("**/events.jsonl")):
        for stage, key in _stages_of(events):
            for entry in by_key.get((stage, key), []):
                if str(events.parent) not in entry.runs:
                    entry.runs.append(str(events.parent))


def _stages_of(events: Path) -> Iterator[tuple[str, str]]:
    with open(events, encoding="utf-8", errors="replace") as file:
        for line in file:
            if '"key"' not in line:  # most lines are of training: parsing all would take minutes
                continue
            with contextlib.suppress(ValueError, AttributeError, KeyError):
                event = json.loads(line)
                yield str(event["stage"]), str(event["key"])


def choose(
    found: list[Entry],
    *,
    stage: str | None = None,
    older_s: float | None = None,
    keep_bytes: int | None = None,
    now: float,
) -> list[Entry]:
    """The entries to remove: of the stage, unused for so long, or until so many bytes are left.

    Args:
        found: all entries.
        stage: only entries of it; without the other two, all of them.
        older_s: those that were last used longer ago.
        keep_bytes: the longest unused ones of the rest, until what stays is no larger.
    """
    mine = [entry for entry in found if stage in (None, entry.stage)]
    if older_s is None and keep_bytes is None:
        return mine
    old = [entry for entry in mine if older_s is not None and entry.used < now - older_s]
    if keep_bytes is None:
        return old
    rest = sorted((entry for entry in mine if entry not in old), key=lambda entry: entry.used)
    left = sum(entry.bytes for entry in rest)
    for entry in rest:
        if left <= keep_bytes:
            break
        old.append(entry)
        left -= entry.bytes
    return old


def remove(entry: Entry, oldest_run: float | None) -> str | None:
    """Remove an entry; returns why it has to stay, or None.

    Args:
        oldest_run: from `oldest_running`, asked after the entries were read.
    """
    if oldest_run is not None and entry.used >= oldest_run - SLACK_S:
        return "a run that still goes may use it"
    lock = entry.path.with_name(f"{entry.key}.lock")
    with open(lock, "a") as file:  # the same lock as Stage.lock
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "a run is making it"
        if entry.kind == "finished" and _used_since(entry):
            return "it was used just now"
        # Renamed first: nobody meets half of it.
        aside = entry.path.with_name(f".{entry.path.name}.removing")
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):  # another prune was faster
            os.replace(entry.path, aside)
        shutil.rmtree(aside, ignore_errors=True)
    return None


def _used_since(entry: Entry) -> bool:
    try:
        return (entry.path / DONE).stat().st_mtime > entry.used
    except FileNotFoundError:
        return False
