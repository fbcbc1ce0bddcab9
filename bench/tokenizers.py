"""What losing nothing costs: tokens of caseops_lossless beside caseops, trained on the same text.

python bench/tokenizers.py [--training FILE] [--documents FILE] [--bytes N] [--vocab-size N]
[--keep FOLDER] [--json] [--save]: both learn from the first N bytes of the training file, and are
counted on documents that they have not seen. --keep saves the two tokenizers (for bench/data.py).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import record

from pgolf.data.documents import read_documents
from pgolf.tokenizer.caseops import CaseOpsTokenizer
from pgolf.tokenizer.caseops_lossless import LosslessCaseOpsTokenizer
from pgolf.tokenizer.roundtrip import roundtrip

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def prefix(path: Path, num_bytes: int) -> Iterator[str]:
    """The first documents that have num_bytes together."""
    taken = 0
    for text in read_documents(path):
        if taken >= num_bytes:
            return
        taken += len(text.encode("utf-8"))
        yield text


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Tokens, exact documents and seconds of training of both."""
    documents = list(read_documents(options.documents))
    training = list(prefix(options.training, options.bytes))
    figures: dict[str, Any] = {
        "bytes of training text": sum(len(text.encode("utf-8")) for text in training),
        "vocabulary": options.vocab_size,
        "documents": len(documents),
    }
    tokens = {}
    for kind in (CaseOpsTokenizer, LosslessCaseOpsTokenizer):
        tokenizer = kind(vocab_size=options.vocab_size)
        start = time.perf_counter()
        tokenizer.fit(training)
        figures[f"{kind.kind}, seconds of training"] = time.perf_counter() - start
        found = roundtrip(tokenizer, documents)
        tokens[kind.kind] = figures[f"{kind.kind}, tokens"] = found["tokens"]
        figures[f"{kind.kind}, exact documents"] = found["exact"]
        figures[f"{kind.kind}, bytes per token"] = found["bytes"] / found["tokens"]
        if options.keep is not None:
            tokenizer.save(options.keep / kind.kind)
    figures["bytes of the documents"] = found["bytes"]
    figures["tokens, lossless over caseops"] = tokens["caseops_lossless"] / tokens["caseops"]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--training", type=Path, default=DATA / "train_docs.jsonl.zst")
    parser.add_argument("--documents", type=Path, default=DATA / "fineweb_verify_docs.jsonl")
    parser.add_argument("--bytes", type=int, default=25_000_000)
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    record.add_options(parser)
    options = parser.parse_args()
    record.finish("tokenizers", measure(options), options)


if __name__ == "__main__":
    main()
