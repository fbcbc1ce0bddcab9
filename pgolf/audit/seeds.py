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
        mine = [row for row in rows if row["run_id"] == result["run_id"]]
        if not mine:
            what = f"{path} does not list this run: nobody knows how many there were."
            return undecided(self, what, "unreported runs", file=str(path))
        own = result["bpb"]["final"]["bpb"]
        for row in mine:
            for key in ("config_hash", "seed"):
                if row[key] != result[key]:
                    return failed(
                        self, f"The list of all runs has another {key} of this run.",
                        file=str(path), reported=result[key], listed=row[key],
                    )  # fmt: skip
            if row["bpb"] is not None and not abs(row["bpb"] - own) <= 1e-9 * own:
                return failed(
                    self, "The list of all runs has another score of this run.", file=str(path),
                    reported_bpb=own, listed_bpb=row["bpb"],
                )  # fmt: skip
        same = [row for row in rows if row["config_hash"] == result["config_hash"]]
        finished = {row["run_id"]: row for row in same if row["bpb"] is not None}
        started = list(dict.fromkeys(row["run_id"] for row in same))
        gone = [run for run in started if not (subject.folder.parent / run).is_dir()]
        lost = [run for run in gone if run in finished]
        if lost:
            return failed(
                self, f"{len(lost)} of {len(started)} runs of this configuration are gone.",
                file=str(path), first_missing=lost[0], runs=len(started), missing=len(lost),
            )  # fmt: skip
        listed = {row["run_id"] for row in rows}
        unlisted = _unlisted(subject.folder.parent, listed, result["config_hash"])
        if unlisted:
            return failed(
                self, f"{len(unlisted)} runs beside this one are in no list: {unlisted[0]}.",
                file=str(path), first_unlisted=unlisted[0], unlisted=len(unlisted),
            )  # fmt: skip
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
        there = "all there" if not gone else "all there that had a score"
        what = f"Runs of this configuration: {len(started)}, {there}; seeds: {seen}."
        left = ["statistics over seeds: pgolf compare does them"]
        if gone:
            left.append(f"attempts that ended without a score and are gone: {len(gone)}")
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
