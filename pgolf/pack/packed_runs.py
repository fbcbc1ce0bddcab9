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
from pgolf.result import validate_result
from pgolf.sweep import OUTCOME

DECIDES_TRAINING = ("seed", "data", "tokenizer", "model", "optim", "train", "hardware")


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
    outcomes = [json.loads(p.read_text(encoding="utf-8")) for p in path.glob(f"*/{OUTCOME}")]
    for outcome in outcomes:
        if "failed" in outcome:
            job = " ".join(outcome["overrides"])
            raise UserError(f"{path}: the job {job} failed: run it again, or name the other runs")
    if outcomes:
        return [Path(outcome["run_folder"]) for outcome in outcomes]
    inside = sorted(found.parent for found in path.glob("*/result.json"))
    if not inside:
        raise UserError(
            f"{path}: neither a finished run (result.json) nor a sweep, nor a folder of finished "
            "runs: name a folder like outputs/NAME, outputs/NAME/ID or outputs/sweeps/TIME"
        )
    return inside


def _read_run(folder: Path) -> Packed:
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: result.json cannot be read ({error})") from error
    validate_result(result)
    return Packed(folder, load_config(folder), result)


def events_of(run: Packed) -> list[dict[str, Any]]:
    """What the run measured; training that came out of the cache as the run that did it says."""
    events = list(read_events(run.folder / "events.jsonl"))
    if any(event["event"] == "train_step" for event in events):
        return events
    for folder in sorted(run.folder.parent.iterdir()):
        if not (folder / "config.yaml").is_file() or not (folder / "events.jsonl").is_file():
            continue
        config = load_config(folder)
        if all(config.get(key) == run.config[key] for key in DECIDES_TRAINING):
            steps = [e for e in read_events(folder / "events.jsonl") if e["event"] == "train_step"]
            if steps:
                about = {"event": "trained_by", "stage": "train", "run": folder.name}
                return [about, *steps, *events]
    return events
