"""`pgolf evaluate RUN`: a run's artifact scored again, in fresh workers."""

from __future__ import annotations

import argparse
from pathlib import Path

from pgolf.commands.output import Answer, show_lines

HELP = "score a run's artifact again"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument("run_folder", type=Path, metavar="RUN")
    parser.add_argument(
        "overrides", nargs="*", help="other values, e.g. hardware.kernels=plain eval.stride=32"
    )


def run(options: argparse.Namespace) -> Answer:
    """The `final` score, measured anew."""
    from pgolf.pipeline import evaluate_again

    return evaluate_again(options.run_folder, options.overrides)


show = show_lines
