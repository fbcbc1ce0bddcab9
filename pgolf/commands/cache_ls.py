"""`pgolf cache ls`: finished stages with their size, age, last use, and the runs that used them."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from pgolf.commands.cache_prune import check_stage
from pgolf.commands.output import Answer, show_table
from pgolf.errors import UserError

HELP = "finished stages: size, age, last use, runs"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument("--stage", help="only this one, e.g. train")
    parser.add_argument(
        "--runs", type=Path, metavar="FOLDER", help="where runs lie (outputs, if there is one)"
    )


def run(options: argparse.Namespace) -> Answer:
    """The entries of $PGOLF_CACHE, or ./cache."""
    from pgolf.cache import add_runs, entries
    from pgolf.pipeline import cache_folder

    if options.runs is not None and not options.runs.is_dir():
        raise UserError(f"--runs {options.runs} is no folder: name one that has run folders")
    cache, now = cache_folder(), time.time()
    everything = entries(cache)
    check_stage(options.stage, {entry.stage for entry in everything})
    found = [entry for entry in everything if options.stage in (None, entry.stage)]
    add_runs(found, (options.runs or Path("outputs")).resolve())
    rows = [
        {
            "stage": entry.stage,
            "key": entry.key,
            "kind": entry.kind,
            "bytes": entry.bytes,
            "age_s": round(now - entry.made, 1),
            "unused_s": round(now - entry.used, 1),
            "runs": entry.runs,
        }
        for entry in found
    ]
    return {"cache": str(cache), "bytes": sum(entry.bytes for entry in found), "entries": rows}


def show(answer: Answer) -> None:
    """A line for each entry, and the sum."""
    rows = [
        {
            "stage": row["stage"],
            "key": row["key"][:12],
            "kind": row["kind"],
            "bytes": row["bytes"],
            "age": ago(row["age_s"]),
            "last use": ago(row["unused_s"]),
            "runs": _runs(row["runs"]),
        }
        for row in answer["entries"]
    ]
    if rows:
        show_table(rows)
    print(f"{len(rows)} entries, {answer['bytes']:,} bytes in {answer['cache']}")


def _runs(runs: list[str]) -> str:
    """The last of them, by their names, and how many more."""
    names = [Path(run).name for run in runs]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[-1]}{more}" if names else "-"


def ago(seconds: float) -> str:
    """Seconds in the largest unit of which there are two or more."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
