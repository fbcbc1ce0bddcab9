"""`pgolf report RUN`: a run's report.html again; of several runs or a folder, one page of all."""

from __future__ import annotations

import argparse
from pathlib import Path

from pgolf.commands.output import Answer, show_lines

HELP = "write the page of a run, or of many together"
COMPARISON = "comparison.html"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument(
        "places", type=Path, nargs="+", metavar="RUN", help="run, sweep, or folder of runs"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE",
        help=f"of the page of all ({COMPARISON} in the folder; of several places, here)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> Answer:
    """The page's path."""
    from pgolf.report.board import write_board
    from pgolf.report.folders import is_run
    from pgolf.report.page import write_report

    places: list[Path] = options.places
    alone = len(places) == 1 and options.output is None
    if alone and (is_run(places[0]) or not places[0].is_dir()):  # no folder: the error names it
        return {"report": str(write_report(places[0]))}
    output = options.output or (places[0] if len(places) == 1 else Path()) / COMPARISON
    return {"report": str(write_board(places, output))}


show = show_lines
