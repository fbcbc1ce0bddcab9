"""`pgolf inspect ARTIFACT`: what lies in an artifact, and where its bytes go."""

from __future__ import annotations

import argparse
from pathlib import Path

from pgolf.commands.output import Answer, show_lines, show_table

HELP = "what lies in an artifact"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument("artifact", type=Path, help="an artifact, its folder or a run folder")


def run(options: argparse.Namespace) -> Answer:
    """Tensors, bits and bytes."""
    from pgolf.artifact import describe, read_artifact

    path: Path = options.artifact
    return describe(read_artifact(path / "artifact" if (path / "artifact").is_dir() else path))


def show(answer: Answer) -> None:
    """A row a tensor, a row a stream, then the totals."""
    show_table(answer["tensors"])
    show_table(answer["streams"])
    show_lines({key: value for key, value in answer.items() if key not in ("tensors", "streams")})
