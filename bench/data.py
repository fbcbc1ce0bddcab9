"""How quickly text becomes tokens: pgolf's tokenizers, SentencePiece alone, and a loop over pieces.

python bench/data.py [FILE] [--bytes N] [--lossless FOLDER] [--models FOLDER] [--json] [--save]:
MB of raw text a second on one core, all on the same documents, the first N bytes of FILE. The
published models lie in --models; --lossless is a tokenizer that bench/tokenizers.py --keep or
`pgolf data train-tokenizer` saved, else one is trained on the documents behind the measured ones.

What is measured of each model: `encode` (ids and the raw bytes of each token) on the first pass
over the text, and again with its words remembered; SentencePiece's own encode, ids only, of the raw
text and of what the model is really given (capitals factored out); and ids and bytes by a Python
loop over the pieces of every document, as published preparation scripts do it.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import record
import sentencepiece

from pgolf.data.documents import read_documents
from pgolf.protocols import Tokenizer
from pgolf.tokenizer import grammar
from pgolf.tokenizer.base import PieceTokenizer
from pgolf.tokenizer.bytes import BytesTokenizer
from pgolf.tokenizer.caseops import CaseOpsTokenizer
from pgolf.tokenizer.caseops_lossless import LosslessCaseOpsTokenizer
from pgolf.tokenizer.sp import SentencePieceTokenizer
from pgolf.tokenizer.store import open_tokenizer

SHARED = Path(__file__).resolve().parents[2] / "shared"
TRAINING_BYTES = 25_000_000
ROUNDS = 2


def documents_of(path: Path, num_bytes: int) -> tuple[list[str], Iterator[str]]:
    """The first documents that have num_bytes together, and those behind them."""
    documents, taken, rest = [], 0, read_documents(path)
    for text in rest:
        documents.append(text)
        taken += len(text.encode("utf-8"))
        if taken >= num_bytes:
            break
    return documents, rest


def seconds(work: Callable[[str], object], texts: list[str]) -> float:
    """CPU seconds of this process for a call a text: others on the machine do not count."""
    start = time.process_time()
    for text in texts:
        work(text)
    return time.process_time() - start


def reopened(tokenizer: PieceTokenizer) -> Tokenizer:
    """The same tokenizer, which has not seen any word."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        return open_tokenizer(Path(folder))


def surfaces(processor: Any, text: str) -> Iterator[tuple[int, str]]:
    """(id, what it stands for) of each piece; SentencePiece 0.2.3 has another name for it."""
    if hasattr(processor, "encode_as_immutable_proto"):
        for piece in processor.encode_as_immutable_proto(text).pieces:
            yield piece.id, piece.surface
        return
    found = processor.encode(text, out_type="offset_mapping")
    for number, (begin, end) in zip(found["ids"], found["offsets"], strict=True):
        yield number, text[begin:end]


def loop_over_pieces(
    processor: Any, tokenizer: PieceTokenizer, text: str
) -> tuple[list[int], list[int]]:
    """Ids and raw bytes of a document, piece by piece in Python."""
    ids, raw_bytes = [], []
    escaped = False
    for number, surface in surfaces(processor, tokenizer.to_model(tokenizer.clean(text))):
        size = 0
        for character in surface:
            if character in tokenizer.symbols and not escaped:
                escaped = character == grammar.ESC
                continue
            escaped = False
            size += len(character.encode("utf-8"))
        ids.append(number)
        raw_bytes.append(size)
    return ids, raw_bytes


def compare(tokenizer: PieceTokenizer, documents: list[str]) -> dict[str, float]:
    """Seconds by what was done, the best of several rounds; the loop's is one."""
    fresh = (reopened(tokenizer) for _ in range(ROUNDS))
    found = {"encode": min(seconds(one.encode, documents) for one in fresh)}
    for text in documents:  # its words are known from here on
        tokenizer.encode(text)
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model.serialized)
    loop = functools.partial(loop_over_pieces, processor, tokenizer)
    given = [tokenizer.to_model(tokenizer.clean(text)) for text in documents]
    for text in documents[:50]:  # all count the same
        for values, expected in zip(tokenizer.encode(text), loop(text), strict=True):
            assert values.tolist() == expected, f"{tokenizer.kind}: {text[:60]!r}"
    work: tuple[tuple[str, Callable[[str], object], list[str], int], ...] = (
        ("encode again", tokenizer.encode, documents, ROUNDS),
        ("SentencePiece, raw text", processor.encode, documents, ROUNDS),
        ("SentencePiece, model's text", processor.encode, given, ROUNDS),
        ("Python loop", loop, documents, 1),
    )
    for name, function, texts, rounds in work:
        found[name] = min(seconds(function, texts) for _ in range(rounds))
    return found


def tokenizers(options: argparse.Namespace, rest: Iterator[str]) -> Iterator[PieceTokenizer]:
    """The published models, and a lossless one."""
    for kind, name in (
        (CaseOpsTokenizer, "fineweb_8192_bpe_caseops.model"),
        (SentencePieceTokenizer, "fineweb_8192_bpe.model"),
    ):
        tokenizer = kind(vocab_size=8192, path=str(options.models / name))
        tokenizer.fit(())
        yield tokenizer
    if options.lossless is not None:
        opened = open_tokenizer(options.lossless)
        assert isinstance(opened, PieceTokenizer)
        yield opened
        return
    lossless = LosslessCaseOpsTokenizer(vocab_size=8192, max_train_bytes=TRAINING_BYTES)
    lossless.fit(rest)
    yield lossless


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """MB of raw text a second, and ratios to SentencePiece and to the loop."""
    documents, rest = documents_of(options.file, options.bytes)
    size = sum(len(text.encode("utf-8")) for text in documents) / 1e6
    figures: dict[str, Any] = {"MB of text": size, "documents": len(documents)}
    for tokenizer in tokenizers(options, rest):
        found = compare(tokenizer, documents)
        for name, value in found.items():
            figures[f"{tokenizer.kind}, {name}, MB/s"] = size / value
        # Beside the quicker of the two, so as not to flatter.
        alone = min(found["SentencePiece, raw text"], found["SentencePiece, model's text"])
        figures[f"{tokenizer.kind}, encode over SentencePiece"] = alone / found["encode"]
        figures[f"{tokenizer.kind}, encode over loop"] = found["Python loop"] / found["encode"]
    plain = BytesTokenizer(vocab_size=264)
    figures["bytes, encode, MB/s"] = size / seconds(plain.encode, documents)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = SHARED / "data" / "train_docs.jsonl.zst"
    parser.add_argument("file", type=Path, nargs="?", default=default)
    parser.add_argument("--bytes", type=int, default=40_000_000)
    parser.add_argument("--models", type=Path, default=SHARED / "tokenizers")
    parser.add_argument("--lossless", type=Path, metavar="FOLDER")
    record.add_options(parser)
    options = parser.parse_args()
    record.finish("data", measure(options), options)


if __name__ == "__main__":
    main()
