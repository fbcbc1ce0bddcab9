"""`pgolf data roundtrip FILE tokenizer=NAME`: every document encoded, decoded and compared.

The tokenizer is that of tokenizer.path=MODEL, else one trained on the configured data (embedded
text unless data=... names another) and kept in the cache: so FILE may be of any size.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pgolf.commands.output import Answer, show_lines

if TYPE_CHECKING:
    from pgolf.protocols import Tokenizer

HELP = "encode and decode every document, and compare"
FILE_HELP = ".txt, .jsonl, .jsonl.zst, .parquet or a folder of these"
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


def ready_tokenizer(overrides: list[str]) -> Tokenizer:
    """The tokenizer that a command line names: a given model's, or trained on its data.

    A given model brings its own vocabulary size, unless the command line has one.

    Raises:
        UserError: the model or the data cannot be used.
    """
    from hydra.utils import instantiate

    from pgolf.clock import Clock
    from pgolf.config import compose
    from pgolf.events import EventLog
    from pgolf.pipeline import cache_folder, checked_inputs
    from pgolf.prepare import prepare
    from pgolf.say import Say
    from pgolf.tokenizer.base import vocab_size_of
    from pgolf.tokenizer.bytes import BytesTokenizer
    from pgolf.tokenizer.store import open_tokenizer

    config = compose(overrides)
    node = config["tokenizer"]
    given = node.get("path")
    if given is not None and not any("vocab_size" in override for override in overrides):
        node["vocab_size"] = vocab_size_of(given)
    tokenizer: Tokenizer = instantiate(node)
    if given is not None or isinstance(tokenizer, BytesTokenizer):
        tokenizer.fit(())
        return tokenizer
    source, tokenizer = checked_inputs(config)
    prepared = prepare(source, tokenizer, cache_folder(), EventLog(None), Clock({}), Say(None))
    return open_tokenizer(prepared.folder / "tokenizer")


def tracked_documents(path: Path, label: str) -> Iterator[str]:
    """The documents of a file or folder, with a progress bar of its bytes."""
    from pgolf.data.documents import find_files, read_documents
    from pgolf.progress import track

    size = sum(file.stat().st_size for file in find_files(path))
    with track(label, size / 1e6, "MB") as bar:
        yield from read_documents(path, lambda num_bytes: bar.advance(num_bytes / 1e6))
