"""Run folders below what a command line names: a run, a sweep, or any folder of runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from pgolf.errors import UserError

OUTCOME = "outcome.json"  # what a job of a sweep leaves: its run folder, or why there is none
MARKS = ("result.json", "events.jsonl")
MAX_DEPTH = 6  # outputs/NAME/ID and outputs/sweeps/DATE/JOB are 2 and 3 deep

Failure = tuple[str, str]


def find_runs(places: Iterable[Path]) -> tuple[list[Path], list[Failure]]:
    """Run folders, each once, in order of their paths; and `(overrides, reason)` of failed jobs.

    Raises:
        UserError: a place is no folder.
    """
    runs: set[Path] = set()
    failed: dict[Path, Failure] = {}
    for place in places:
        if not place.is_dir():
            raise UserError(f"{place} is no folder: name run folders, a sweep, or a folder of runs")
        for folder in _walk(place.resolve(), MAX_DEPTH):
            if is_run(folder):
                runs.add(folder)
            elif (found := _outcome(folder / OUTCOME)) is not None:
                target, failure = found
                if failure is not None:
                    failed[folder] = failure
                elif target is not None and target.is_dir():
                    runs.add(target.resolve())
    return sorted(runs), [failed[folder] for folder in sorted(failed)]


def is_run(folder: Path) -> bool:
    """Whether this is a run folder, finished or not."""
    return any((folder / mark).is_file() for mark in MARKS)


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    """Folders that may be runs or jobs; what lies inside of one is not looked at."""
    yield folder
    if depth == 0 or is_run(folder) or (folder / OUTCOME).is_file():
        return
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    except OSError:  # gone meanwhile, or closed to this user
        return
    for name in sorted(names):
        yield from _walk(folder / name, depth - 1)


def _outcome(path: Path) -> tuple[Path | None, Failure | None] | None:
    if not path.is_file():
        return None
    try:
        outcome = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it is being written
        return None
    if not isinstance(outcome, dict):
        return None
    if "failed" in outcome:
        return None, (" ".join(outcome.get("overrides", [])), str(outcome["failed"]))
    folder = outcome.get("run_folder")
    return (Path(folder) if folder else None), None
