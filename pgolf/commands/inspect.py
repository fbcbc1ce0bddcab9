"""`pgolf inspect FILE|ARTIFACT|RUN`: what lies in an artifact, and where its bytes go.

With scales: bits a weight, of all that is raw. In bytes: raw is codes packed to their bits, and
scales; entropy what a memoryless coder needs for
the codes; encoded what both took, of a codec of bytes a share of what tensors took together. Loss,
of runs whose quantizer measured it, is nats a token that the codes of a tensor add.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

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
    from pgolf.config import load_config
    from pgolf.outcome import measure_artifact
    from pgolf.result import ARTIFACT_LIMIT_BYTES

    path: Path = options.artifact
    if not (path / "artifact").is_dir():
        return describe(read_artifact(path))
    has_config = (path / "config.yaml").is_file()  # an imported folder has none
    limits = load_config(path)["limits"] if has_config else {}
    limit = limits.get("artifact_bytes", ARTIFACT_LIMIT_BYTES)
    artifact, losses = read_artifact(path / "artifact"), _losses(path / "events.jsonl")
    # Of a run the whole folder counts, code included.
    sizes = measure_artifact(path / "artifact", limit)
    return {**describe(artifact, losses, sizes.pop("limit")), **sizes}


def _losses(log: Path) -> dict[str, float]:
    """Of each tensor, where the run's last artifact came with them."""
    from pgolf.events import read_events

    rows: list[dict[str, Any]] = []
    for event in read_events(log) if log.exists() else ():
        if event.get("event") == "tensors":
            rows = event["rows"]
    return {row["name"]: row["loss"] for row in rows if row.get("loss") is not None}


def show(answer: Answer) -> None:
    """A row a tensor, a row a stream, then the totals."""
    from pgolf.report.tensors import cells, heads

    if answer["tensors"]:
        names = heads(answer["tensors"])
        # Losses come last, and have no name where there are none.
        show_table([dict(zip(names, cells(row), strict=False)) for row in answer["tensors"]])
        show_table(answer["streams"])
    show_lines({key: value for key, value in answer.items() if key not in ("tensors", "streams")})
