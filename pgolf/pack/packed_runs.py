"""The finished runs that a submission is made from: read, and checked to belong together."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgolf.config import load_config
from pgolf.data.manifest import MANIFEST
from pgolf.errors import UserError
from pgolf.events import read_events
from pgolf.result import validate_result_of
from pgolf.sweep import OUTCOME, read_outcomes

EVENTS = "events.jsonl"


@dataclass(frozen=True)
class Packed:
    """A finished run, as far as a submission needs it."""

    folder: Path
    config: dict[str, Any]
    result: dict[str, Any]

    @property
    def seed(self) -> int:
        return int(self.result["seed"])

    @property
    def model_bytes(self) -> int:
        return int(self.result["artifact"]["model_bytes"])

    @property
    def data(self) -> Path | None:
        """The shards that it used, if they are still there."""
        used = (self.result["provenance"].get("data") or {}).get("folder")
        return Path(used) if used and (Path(used) / MANIFEST).is_file() else None


def read_runs(paths: list[Path]) -> list[Packed]:
    """All runs of some run folders and sweeps, by seed.

    Raises:
        UserError: none, an unfinished one, two of one seed, or different configurations.
    """
    runs = [_read_run(folder) for path in paths for folder in run_folders(path)]
    runs.sort(key=lambda run: run.seed)
    hashes = {run.result["config_hash"] for run in runs}
    if len(hashes) > 1:
        raise UserError(
            f"{len(runs)} runs of {len(hashes)} configurations: a submission has one "
            "configuration and several seeds; name the runs one by one"
        )
    for one, other in itertools.pairwise(runs):
        if one.seed == other.seed:
            raise UserError(
                f"{one.folder} and {other.folder} have the same seed, {one.seed}: name one of them"
            )
    return runs


def run_folders(path: Path) -> list[Path]:
    """A run folder itself, those of the jobs of a sweep, or all finished ones in a folder.

    Raises:
        UserError: it is none of these, or a job failed.
    """
    if (path / "result.json").is_file():
        return [path]
    if any(path.glob(f"*/{OUTCOME}")):
        return _jobs_of(path)
    inside = sorted(found.parent for found in path.glob("*/result.json"))
    if not inside:
        raise UserError(
            f"{path}: neither a finished run (result.json) nor a sweep, nor a folder of finished "
            "runs: name a folder like outputs/NAME, outputs/NAME/ID or outputs/sweeps/TIME"
        )
    return inside


def _jobs_of(sweep: Path) -> list[Path]:
    try:
        outcomes = read_outcomes(sweep)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{sweep}: the outcome of a job cannot be read ({error}): name the runs one by one"
        ) from error
    for job, why in outcomes.failed:
        raise UserError(
            f"{sweep}: the job {job} failed ({why}): run it again, or name the other runs"
        )
    return outcomes.folders


def _read_run(folder: Path) -> Packed:
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: result.json cannot be read ({error})") from error
    validate_result_of(folder, result)
    if not (folder / EVENTS).is_file():
        raise UserError(f"{folder}: {EVENTS} is missing, which has its training log: copy it, too")
    return Packed(folder, load_config(folder), result)


def events_of(run: Packed) -> list[dict[str, Any]]:
    """What the run measured; training that came out of the cache as the run that did it says."""
    events = list(read_events(run.folder / EVENTS))
    if any(event["event"] == "train_step" for event in events):
        return events
    key = _training(events)
    for file in sorted(run.folder.parent.glob(f"*/{EVENTS}")) if key else ():
        others = list(read_events(file))
        steps = [event for event in others if event["event"] == "train_step"]
        if steps and _training(others) == key:
            about = {"event": "trained_by", "stage": "train", "run": file.parent.name}
            return [about, *steps, *events]
    return events


def _training(events: list[dict[str, Any]]) -> str | None:
    """Key of the stage in which a run's weights were trained, by itself or by another run."""
    stages = (e for e in events if e["event"] == "stage" and e["stage"] == "train")
    return next((event["key"] for event in stages if event.get("key")), None)
