"""`pgolf data train-tokenizer INPUT -o FOLDER tokenizer=NAME scale.vocab_size=N`.

Writes tokenizer.model, for tokenizer.path=FOLDER/tokenizer.model, and tokenizer.json, which says
how it was made; then reports on the beginning of INPUT.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgolf.commands.data_report import show as show_report
from pgolf.commands.data_roundtrip import FILE_HELP, OVERRIDES_HELP, tracked_documents
from pgolf.commands.naming import option_name
from pgolf.commands.output import Answer, show_lines
from pgolf.errors import UserError

if TYPE_CHECKING:
    from pgolf.tokenizer.base import PieceTokenizer

HELP = "train a tokenizer and record how"
REPORT_BYTES = 4_000_000


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument("input", type=Path, help=FILE_HELP)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("overrides", nargs="*", help=OVERRIDES_HELP)


def run(options: argparse.Namespace) -> Answer:
    """Train, save, report."""
    from pgolf.runfolder import check_writable
    from pgolf.tokenizer import saved
    from pgolf.tokenizer.survey import survey

    path, folder = options.input, options.out
    tokenizer = _untrained(options.overrides)
    if any((folder / name).exists() for name in (saved.DESCRIPTION, saved.MODEL)):
        raise UserError(f"{folder} holds a tokenizer already: give another -o, or remove it")
    check_writable(folder, "-o FOLDER")
    counts = {"documents": 0, "bytes": 0}
    tokenizer.fit(_counted(tracked_documents(path, "tokenizer"), counts))
    tokenizer.save(folder)
    saved.record_training(folder, {**_origin(path), **counts})
    sample = _beginning(tracked_documents(path, "report"), REPORT_BYTES)
    return {
        "tokenizer": tokenizer.kind,
        "folder": str(folder),
        "trained_on": counts,
        "report": survey(tokenizer, sample),
    }


def show(answer: Answer) -> None:
    """Where it lies, then the report."""
    model = Path(answer["folder"]) / "tokenizer.model"
    show_lines({
        "tokenizer": answer["tokenizer"],
        "trained on": answer["trained_on"],
        "use it by": f"tokenizer={answer['tokenizer']} tokenizer.path={model}",
    })  # fmt: skip
    print("\non the beginning of the text that it was trained on:")
    show_report(answer["report"])


def _untrained(overrides: list[str]) -> PieceTokenizer:
    from hydra.utils import instantiate

    from pgolf.config import compose
    from pgolf.tokenizer.base import PieceTokenizer

    tokenizer = instantiate(compose(overrides)["tokenizer"])
    if not isinstance(tokenizer, PieceTokenizer):
        raise UserError(
            f"tokenizer={option_name(tokenizer)} has no SentencePiece model to train: use "
            "tokenizer=caseops_lossless, caseops or sp"
        )
    if tokenizer.path is not None:
        raise UserError(
            f"tokenizer.path={tokenizer.path} names a model that is trained already: leave it out, "
            "or add tokenizer.path=null"
        )
    tokenizer.check()
    return tokenizer


def _origin(path: Path) -> dict[str, Any]:
    """The files of the text, and the versions that have a part in the result."""
    from pgolf import __version__, provenance
    from pgolf.data.documents import find_files
    from pgolf.files import sha256_file

    files = find_files(path)
    return {
        "input": str(path.resolve()),
        "files": [
            {"name": file.name, "bytes": file.stat().st_size, "sha256": sha256_file(file)}
            for file in files
        ],
        "versions": {
            "pgolf": __version__,
            "sentencepiece": provenance.package_versions()["sentencepiece"],
        },
    }


def _counted(texts: Iterable[str], counts: dict[str, int]) -> Iterator[str]:
    for text in texts:
        counts["documents"] += 1
        counts["bytes"] += len(text.encode("utf-8"))
        yield text


def _beginning(texts: Iterable[str], num_bytes: int) -> Iterator[str]:
    """The first documents, until they have num_bytes."""
    taken = 0
    for text in texts:
        yield text
        taken += len(text.encode("utf-8"))
        if taken >= num_bytes:
            return
