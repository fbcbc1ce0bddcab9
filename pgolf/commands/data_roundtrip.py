"""`pgolf data roundtrip FILE tokenizer=NAME`: every document encoded, decoded and compared.

The tokenizer is that of tokenizer.path=MODEL, else one trained on the configured data (embedded
text unless data=... names another) and kept in the cache: so FILE may be of any size.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from pgolf.commands.naming import ready_tokenizer
from pgolf.commands.output import Answer, show_lines

HELP = "encode and decode every document, and compare"
FILE_HELP = ".txt, .jsonl (both also .zst, .gz), .parquet or a folder of these"
OVERRIDES_HELP = "tokenizer=NAME and more as for launch.py, e.g. tokenizer.path=MODEL"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument("file", type=Path, help=FILE_HELP)
    parser.add_argument("overrides", nargs="*", help=OVERRIDES_HELP)


def run(options: argparse.Namespace) -> Answer:
    """`{documents, exact, bytes, tokens, ...}`: `exact` documents decode to what they were."""
    from pgolf.tokenizer.roundtrip import roundtrip

    tokenizer = ready_tokenizer(options.overrides)
    return roundtrip(tokenizer, tracked_documents(options.file, "roundtrip"))


show = show_lines


def tracked_documents(path: Path, label: str) -> Iterator[str]:
    """The documents of a file or folder, with a progress bar of its bytes."""
    from pgolf.data.documents import find_files, read_documents
    from pgolf.progress import track

    size = sum(file.stat().st_size for file in find_files(path))
    with track(label, size / 1e6, "MB") as bar:
        yield from read_documents(path, lambda num_bytes: bar.advance(num_bytes / 1e6))
