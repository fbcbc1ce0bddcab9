"""`pgolf runs [FOLDER ...]`: the runs below some folders, finished or going on, newest last."""

from __future__ import annotations

import argparse
from pathlib import Path

from pgolf.commands.output import Answer
from pgolf.errors import UserError

HELP = "runs below a folder, with their loss"
SORTS = {"time": "started", "bpb": "bpb", "bytes": "bytes", "seconds": "seconds"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument(
        "folders", nargs="*", type=Path, default=[Path("outputs")], metavar="FOLDER",
        help="runs, sweeps or folders of runs (outputs)",
    )  # fmt: skip
    parser.add_argument("--sort", choices=SORTS, default="time", help="ascending (time)")
    parser.add_argument("--last", type=int, metavar="N", help="only the last N rows")


def run(options: argparse.Namespace) -> Answer:
    """A summary of each run, and the jobs of sweeps that failed."""
    from pgolf.report.folders import find_runs
    from pgolf.report.history import read_run
    from pgolf.report.overview import summary

    if options.last is not None and options.last < 1:
        raise UserError(f"--last {options.last}: expected 1 or more")
    folders, failed = find_runs(options.folders)
    runs = [summary(read_run(folder)) for folder in folders]
    key = SORTS[options.sort]
    runs.sort(key=lambda row: (row[key] is None, row[key] or 0))
    return {
        "runs": runs if options.last is None else runs[-options.last :],
        "failed": [{"job": job, "reason": reason} for job, reason in failed],
    }


def show(answer: Answer) -> None:
    """A line a run, then the failed jobs."""
    from rich.console import Console

    from pgolf.report.overview import print_runs

    console = Console()
    if not console.is_terminal:
        console.width = 200  # in a file, nothing need be cut short
    if answer["runs"]:
        print_runs(answer["runs"], console)
    else:
        print("no runs")
    for row in answer["runs"]:
        if row["broken"]:
            print(f"broken: {row['folder']}: {row['broken']}")
    for failure in answer["failed"]:
        print(f"failed: {failure['job']}: {failure['reason']}")
