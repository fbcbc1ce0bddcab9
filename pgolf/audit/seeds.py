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


def read_runs(path: Path) -> list[dict[str, Any]]:
    """The lines of runs.jsonl; an unfinished last one is passed over."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def record_run(folder: Path, **values: Any) -> None:
    """Append a line about a run to the list beside its folder."""
    line = json.dumps({"run_id": folder.name, **values}, ensure_ascii=False) + "\n"
    with open(folder.parent / RUNS, "ab", buffering=0) as file:
        file.write(line.encode())
