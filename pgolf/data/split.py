"""Which documents are validation: `first:50000`, `hash:0.02`, `source:NAME` or `file:PATH`.

Training never contains a validation document. Every rule looks through the text once to know what
it holds out, and again to divide it, instead of keeping text in memory.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Protocol

from pgolf.data.corpus import CorpusWriter, document_key
from pgolf.data.documents import Document
from pgolf.data.seen import Seen
from pgolf.errors import UserError

RULES = "first:50000 (documents), hash:0.02 (part of the bytes), source:NAME or file:PATH"
BIN_BYTES = 2


class Read(Protocol):
    """Opens the documents of a path anew; `what` names the pass for a progress bar."""

    def __call__(self, path: Path, what: str) -> Iterator[Document]: ...


class Rule(Protocol):
    """Chooses validation.

    Attributes:
        words: the rule, for the manifest.
        repeats: validation keeps documents with the same text, as scores on it are compared.
    """

    words: str
    repeats: bool

    def held_out(self, read: Read, path: Path) -> Iterator[tuple[bytes, Document | None]]:
        """Keys of validation, with the document where it comes from elsewhere than `path`."""
        ...

    def takes(self, number: int, document: Document, key: bytes) -> bool:
        """Whether a document of the path belongs to validation."""
        ...


class First:
    """The first documents, as the published validation has the first 50,000 of FineWeb."""

    repeats = True

    def __init__(self, count: int) -> None:
        self.count = count
        self.words = f"validation: the first {count} documents as they are; training: the rest"

    def held_out(self, read: Read, path: Path) -> Iterator[tuple[bytes, None]]:
        for document in islice(read(path, "validation"), min(self.count, sys.maxsize)):
            yield document_key(document.text), None

    def takes(self, number: int, document: Document, key: bytes) -> bool:
        return number < self.count


class ByHash:
    """By order of the documents' hashes until a part of all bytes: a fair sample in any order.

    Bytes are counted in 65,536 bins by the first two bytes of the hash, and whole bins are taken:
    so nothing has to be kept of each document but that it was seen.
    """

    repeats = False

    def __init__(self, part: float) -> None:
        self.part, self._last_bin = part, -1
        self.words = (
            f"by order of the documents' hashes: validation until {part} of the bytes, the rest "
            "training"
        )

    def held_out(self, read: Read, path: Path) -> Iterator[tuple[bytes, None]]:
        seen, bins = Seen(), array("Q", bytes(8 << 8 * BIN_BYTES))
        for document in read(path, "hashes"):
            key = document_key(document.text)
            if seen.add(key):
                # An empty document counts as well: it has a side, too.
                bins[_bin(key)] += max(1, len(document.text.encode("utf-8")))
        filled = [i for i, num_bytes in enumerate(bins) if num_bytes]
        wanted, taken, last = self.part * sum(bins), 0, -1
        for i in filled[:-1]:  # never all
            if taken >= wanted:
                break
            taken, last = taken + bins[i], i
        self._last_bin = last
        yield from ()  # equal texts have equal hashes, so they are on one side anyway

    def takes(self, number: int, document: Document, key: bytes) -> bool:
        return _bin(key) <= self._last_bin


def _bin(key: bytes) -> int:
    return int.from_bytes(key[:BIN_BYTES], "big")


class BySource:
    """All documents with a given `source`, see `Document`."""

    repeats = True

    def __init__(self, source: str) -> None:
        self.source = source
        self.words = f"validation: all documents of source {source} as they are; training: the rest"

    def held_out(self, read: Read, path: Path) -> Iterator[tuple[bytes, None]]:
        for document in read(path, "validation"):
            if document.source == self.source:
                yield document_key(document.text), None

    def takes(self, number: int, document: Document, key: bytes) -> bool:
        return document.source == self.source


class FromFile:
    """The documents of another file or folder."""

    repeats = True
    words = "validation: all documents of another file as they are; training: those of path"

    def __init__(self, path: Path) -> None:
        self.path = path

    def held_out(self, read: Read, path: Path) -> Iterator[tuple[bytes, Document]]:
        for document in read(self.path, "validation"):
            yield document_key(document.text), document

    def takes(self, number: int, document: Document, key: bytes) -> bool:
        return False


def parse_rule(text: str, key: str) -> Rule:
    """The rule that a text such as `hash:0.02` names.

    Args:
        key: the setting that it comes from, for messages.

    Raises:
        UserError: it names none, or its value is out of range.
    """
    kind, _, value = text.partition(":")
    if kind == "source" and value:
        return BySource(value)
    if kind == "file" and value:
        return FromFile(Path(value).expanduser())
    if kind == "first" and value.isascii() and value.isdigit() and int(value) > 0:
        return First(int(value))
    if kind == "hash":
        with suppress(ValueError):
            if 0 < float(value) < 1:
                return ByHash(float(value))
    raise UserError(f"{key}{text}: expected {RULES}")


def divide(rule: Rule, read: Read, path: Path, writer: CorpusWriter) -> tuple[int, int]:
    """Write both splits of a path.

    Returns:
        documents left out since the same text came before, and training documents left out since
        they are in validation.
    """
    held_out, seen = Seen(), Seen()
    for key, given in rule.held_out(read, path):
        held_out.add(key)
        if given is not None:
            writer.add("validation", given.text)
    num_repeated = num_dropped = 0
    for number, document in enumerate(read(path, "documents")):
        key = document_key(document.text)
        if rule.takes(number, document, key) and (rule.repeats or seen.add(key)):
            writer.add("validation", document.text)
        elif key in held_out:
            num_dropped += 1
        elif seen.add(key):
            writer.add("training", document.text)
        else:
            num_repeated += 1
    return num_repeated, num_dropped
