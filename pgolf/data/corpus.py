"""Documents divided into training and validation, in a folder, before any tokenizer sees them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import zstandard

from pgolf.data.documents import read_documents
from pgolf.errors import UserError
from pgolf.files import atomic_writer, write_json

CORPUS = "documents.json"
SPLITS = ("training", "validation")


@dataclass(frozen=True)
class Corpus:
    """What a folder of documents holds: `training.jsonl.zst`, `validation.jsonl.zst` and this.

    Args:
        num_documents: of each split.
        document_bytes: UTF-8 bytes of each split's documents.
        split_rule, duplicates_removed, training_documents_dropped, official_validation: as in
            the manifest.
    """

    num_documents: dict[str, int]
    document_bytes: dict[str, int]
    split_rule: str
    duplicates_removed: int
    training_documents_dropped: int
    official_validation: bool | None

    @classmethod
    def load(cls, folder: Path) -> Corpus:
        """Raises UserError when the folder has no such file or it cannot be understood."""
        path = folder / CORPUS
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{path} cannot be read ({error}): prepare the data again") from error


def documents_of(folder: Path, split: str) -> Iterator[str]:
    """The documents of "training" or "validation", in their order."""
    return read_documents(folder / f"{split}.jsonl.zst")


def document_key(text: str) -> bytes:
    """Equal for equal texts; also a fair number to choose documents by."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()


def choose_validation(sizes: dict[bytes, int], num_bytes: float) -> set[bytes]:
    """Documents for validation: by order of their key until there are num_bytes; never all.

    Args:
        sizes: UTF-8 bytes of each document by its key.
    """
    chosen: set[bytes] = set()
    taken = 0
    for key in sorted(sizes)[:-1]:
        if taken >= num_bytes:
            break
        chosen.add(key)
        taken += sizes[key]
    return chosen


class CorpusWriter:
    """Takes documents of both splits in any order; made by `corpus_writer`."""

    def __init__(self, put: dict[str, Callable[[bytes], int]]) -> None:
        self._put = put
        self.num_documents = dict.fromkeys(SPLITS, 0)
        self.document_bytes = dict.fromkeys(SPLITS, 0)

    def add(self, split: str, text: str) -> None:
        self.num_documents[split] += 1
        self.document_bytes[split] += len(text.encode("utf-8"))
        self._put[split](json.dumps({"text": text}, ensure_ascii=False).encode("utf-8") + b"\n")


@contextmanager
def corpus_writer(folder: Path) -> Iterator[CorpusWriter]:
    """Open both splits of a folder for writing; they appear when all has gone well."""
    compressor = zstandard.ZstdCompressor(level=3)
    paths = [folder / f"{split}.jsonl.zst" for split in SPLITS]
    with (
        atomic_writer(paths[0]) as training,
        atomic_writer(paths[1]) as validation,
        compressor.stream_writer(training, closefd=False) as first,
        zstandard.ZstdCompressor(level=3).stream_writer(validation, closefd=False) as second,
    ):
        yield CorpusWriter(dict(zip(SPLITS, (first.write, second.write), strict=True)))


def finish_corpus(
    folder: Path,
    writer: CorpusWriter,
    *,
    split_rule: str,
    duplicates_removed: int,
    training_documents_dropped: int,
    official_validation: bool | None,
    remedy: str,
) -> Corpus:
    """Write documents.json.

    Args:
        remedy: what to do about an empty split, for the message.

    Raises:
        UserError: a split has no documents.
    """
    for split in SPLITS:
        if writer.document_bytes[split] == 0:
            raise UserError(
                f"no text is left for {split} (duplicates removed: {duplicates_removed}, training "
                f"documents dropped as part of validation: {training_documents_dropped}): {remedy}"
            )
    corpus = Corpus(
        writer.num_documents,
        writer.document_bytes,
        split_rule,
        duplicates_removed,
        training_documents_dropped,
        official_validation,
    )
    write_json(folder / CORPUS, asdict(corpus))
    return corpus


class Unique:
    """Lets each text through once and counts the rest."""

    def __init__(self) -> None:
        self.sizes: dict[bytes, int] = {}
        self.num_removed = 0

    def __call__(self, texts: Iterable[str]) -> Iterator[tuple[bytes, str]]:
        """(key, text) of every text that did not come before."""
        for text in texts:
            key = document_key(text)
            if key in self.sizes:
                self.num_removed += 1
                continue
            self.sizes[key] = len(text.encode("utf-8"))
            yield key, text
