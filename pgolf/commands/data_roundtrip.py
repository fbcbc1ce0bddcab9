"""`pgolf data roundtrip FILE tokenizer=NAME`: every document encoded, decoded and compared."""

from __future__ import annotations

import argparse
from pathlib import Path

from pgolf.commands.output import Answer, show_lines

HELP = "encode and decode every document, and compare"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument("file", type=Path, help=".txt, .jsonl, .jsonl.zst, .parquet or a folder")
    parser.add_argument("overrides", nargs="*", help="tokenizer=NAME tokenizer.path=MODEL ...")


def run(options: argparse.Namespace) -> Answer:
    """`{documents, exact, bytes, tokens}`: `exact` documents decode to what they were."""
    from hydra.utils import instantiate

    from pgolf.config import compose
    from pgolf.data.documents import read_documents
    from pgolf.tokenizer.roundtrip import roundtrip

    config = compose(options.overrides)
    tokenizer = instantiate(config["tokenizer"])
    tokenizer.check()
    documents = list(read_documents(options.file))
    # Without a given model the tokenizer learns from the very text that it is tried on.
    tokenizer.fit(documents)
    return roundtrip(tokenizer, documents)


show = show_lines
