"""`pgolf compare RUN RUN ...`: finished runs side by side."""

from __future__ import annotations

import argparse
from pathlib import Path

from pgolf.commands.output import Answer

HELP = "runs side by side"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument("run_folders", type=Path, nargs="+", metavar="RUN")


def run(options: argparse.Namespace) -> Answer:
    """The results, in the order given."""
    from pgolf.report.rundata import load_run

    return {"runs": [load_run(folder).result for folder in options.run_folders]}


def show(answer: Answer) -> None:
    """The table that a sweep ends with."""
    from rich.console import Console

    from pgolf.report.sweep import print_sweep

    print_sweep(answer["runs"], [], Console())
