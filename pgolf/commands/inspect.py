"""`pgolf inspect FILE|ARTIFACT|RUN`: what lies in an artifact, and where its bytes go.

In bytes: raw is codes packed to their bits, and scales; entropy what a memoryless coder needs for
the codes; encoded what both took, of a codec of bytes a share of what tensors took together.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pgolf.commands.output import Answer, show_lines, show_table

HELP = "what lies in an artifact"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument(
        "artifact",
        type=Path,
        metavar="FILE|ARTIFACT|RUN",
        help="a model.pgolf, its folder or a run folder",
    )


def run(options: argparse.Namespace) -> Answer:
    """Tensors, bits and bytes."""
    from pgolf.artifact import read_artifact
    from pgolf.census import describe

    path: Path = options.artifact
    return describe(read_artifact(path / "artifact" if (path / "artifact").is_dir() else path))


def show(answer: Answer) -> None:
    """A row a tensor, a row a stream, then the totals."""
    from pgolf.report.tensors import SHOWN, cells

    if answer["tensors"]:
        rows = [dict(zip(SHOWN, cells(row), strict=True)) for row in answer["tensors"]]
        show_table(rows)
        show_table(answer["streams"])
    show_lines({key: value for key, value in answer.items() if key not in ("tensors", "streams")})
