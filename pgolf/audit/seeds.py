"""SEEDS: how many runs of an experiment there were, beside the one that is looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pgolf.audit.finding import Finding
from pgolf.audit.probe import failed, not_applicable, passed, undecided
from pgolf.audit.subject import Subject

RUNS = "runs.jsonl"


class Seeds:
    """Reads the list of all runs beside the run folder, which only ever grows."""

    name = "SEEDS"

    def check(self, subject: Subject) -> Finding:
        """Runs that were started and are not there, and repeated runs of the same seed."""
        result = subject.result
        if result is None:
            return not_applicable(self, "There is no run.")
        path = subject.folder.parent / RUNS
        rows = read_runs(path)
        if not any(row["run_id"] == result["run_id"] for row in rows):
            what = f"{path} does not list this run: nobody knows how many there were."
            return undecided(self, what, "unreported runs", file=str(path))
        same = [row for row in rows if row["config_hash"] == result["config_hash"]]
        started = list(dict.fromkeys(row["run_id"] for row in same))
        lost = [run for run in started if not (subject.folder.parent / run).is_dir()]
        if lost:
            return failed(
                self, f"{len(lost)} of {len(started)} runs of this configuration are gone.",
                file=str(path), first_missing=lost[0], runs=len(started), missing=len(lost),
            )  # fmt: skip
        said = [r["bpb"] for r in same if r["run_id"] == result["run_id"] and r["bpb"] is not None]
        reported = result["bpb"]["final"]["bpb"]
        if said and any(abs(bpb - reported) > 1e-9 * reported for bpb in said):
            return failed(
                self, "The list of all runs has another score of this run.", file=str(path),
                reported_bpb=reported, listed_bpb=said[-1],
            )  # fmt: skip
        listed = {row["run_id"] for row in rows}
        unlisted = _unlisted(subject.folder.parent, listed, result["config_hash"])
        if unlisted:
            return failed(
                self, f"{len(unlisted)} runs beside this one are in no list: {unlisted[0]}.",
                file=str(path), first_unlisted=unlisted[0], unlisted=len(unlisted),
            )  # fmt: skip
        finished = {row["run_id"]: row for row in same if row.get("bpb") is not None}
        own = result["bpb"]["final"]["bpb"]
        rivals = [
            row["bpb"]
            for run, row in finished.items()
            if run != result["run_id"] and row["seed"] == result["seed"] and row["bpb"] != own
        ]
        if rivals and own < min(rivals):
            return failed(
                self, f"This is the best of {len(rivals) + 1} runs of the same seed.",
                reported_bpb=own, other_bpb=min(rivals), runs=len(rivals) + 1, seed=result["seed"],
            )  # fmt: skip
        seeds = sorted({row["seed"] for row in finished.values()} | {result["seed"]})
        seen = ", ".join(map(str, seeds))
        what = f"Runs of this configuration: {len(started)}, all there; seeds: {seen}."
        left = ["statistics over seeds: pgolf compare does them"]
        return passed(
            self, what, left, runs=len(started), unfinished=len(set(started) - finished.keys()),
            seeds=seeds,
        )  # fmt: skip


def _unlisted(folder: Path, listed: set[str], config_hash: str) -> list[str]:
    """Finished runs of a configuration whose line somebody has taken out of the list.

    Names of runs begin with their time: those before the list was begun are not meant.
    """
    found = []
    for path in sorted(folder.glob("*/result.json")):
        name = path.parent.name
        if name in listed or name < min(listed):
            continue
        try:
            same = json.loads(path.read_text(encoding="utf-8"))["config_hash"] == config_hash
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found += [name] if same else []
    return found


def read_runs(path: Path) -> list[dict[str, Any]]:
    """The lines of runs.jsonl; an unfinished last one is passed over."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and {"run_id", "config_hash", "seed"} <= row.keys():
            rows.append({"bpb": None, **row})
    return rows


def record_run(folder: Path, **values: Any) -> None:
    """Append a line about a run to the list beside its folder."""
    line = json.dumps({"run_id": folder.name, **values}, ensure_ascii=False) + "\n"
    with open(folder.parent / RUNS, "ab", buffering=0) as file:
        file.write(line.encode())
