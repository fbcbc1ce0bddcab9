"""`pgolf report RUN`: report.html written again, e.g. with a newer pgolf."""

from __future__ import annotations

import argparse
from pathlib import Path

from pgolf.commands.output import Answer, show_lines

HELP = "write report.html again"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument("run_folder", type=Path, metavar="RUN")


def run(options: argparse.Namespace) -> Answer:
    """The page's path."""
    from pgolf.report.page import write_report

    return {"report": str(write_report(options.run_folder))}


show = show_lines
