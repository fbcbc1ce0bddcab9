"""`data=local data.path=...`: your own text files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pgolf.data.corpus import (
    Corpus,
    Unique,
    choose_validation,
    corpus_writer,
    document_key,
    finish_corpus,
)
from pgolf.data.documents import find_files, read_documents
from pgolf.data.manifest import Manifest
from pgolf.data.tokenize import tokenize_documents
from pgolf.errors import UserError
from pgolf.progress import track
from pgolf.protocols import Tokenizer

VERSION = 1  # raised whenever the same files would give other documents
GIVEN = "validation: all documents of val_path as they are; training: those of path"
BY_HASH = (
    "by order of the documents' hashes: validation until {share} of the bytes, the rest training"
)


class LocalText:
    """Documents of files; see `read_documents` for the formats.

    Of documents with the same text one stays, and a training document that is in validation too
    is dropped. Validation that is given by itself stays as it is: scores on it are compared.

    Args:
        path: a file or folder.
        val_path: file or folder of the validation documents; None takes some of `path`.
        val_fraction: part of the bytes of `path` that becomes validation, where val_path is None.
        max_bytes: read only the first documents of `path`, until they have so many UTF-8 bytes.
    """

    def __init__(
        self,
        *,
        path: str,
        val_path: str | None = None,
        val_fraction: float = 0.02,
        max_bytes: int | None = None,
    ) -> None:
        self.path = Path(path).expanduser()
        self.val_path = Path(val_path).expanduser() if val_path is not None else None
        self.val_fraction, self.max_bytes = val_fraction, max_bytes

    def check(self) -> None:
        """Read the first document of each path.

        Raises:
            UserError: a setting is out of range, or a path is missing or not readable.
        """
        if not 0 < self.val_fraction < 1:
            raise UserError(f"data.val_fraction={self.val_fraction}: expected a part, 0 < part < 1")
        if self.max_bytes is not None and self.max_bytes < 1:
            raise UserError(f"data.max_bytes={self.max_bytes}: expected 1 or more, or null for all")
        for path in self._paths():
            next(read_documents(path))

    def _paths(self) -> list[Path]:
        return [self.path, *([self.val_path] if self.val_path else [])]

    def cache_key(self) -> dict[str, Any]:
        return {
            "source": "local",
            "version": VERSION,
            "val_fraction": None if self.val_path else self.val_fraction,
            "max_bytes": self.max_bytes,
            "files": [[_identity(file) for file in find_files(path)] for path in self._paths()],
        }

    def documents(self, folder: Path, show: bool) -> Corpus:
        """Read, remove duplicates, divide.

        Raises:
            UserError: a file cannot be read, or nothing is left for a split.
        """
        if self.val_path is not None:
            return self._with_given_validation(self.val_path, folder, show)
        return self._divided(folder, show)

    def tokenize(self, documents: Path, tokenizer: Tokenizer, folder: Path, show: bool) -> Manifest:
        return tokenize_documents(documents, tokenizer, folder, show)

    def _with_given_validation(self, val_path: Path, folder: Path, show: bool) -> Corpus:
        unique, held_out, num_dropped = Unique(), set(), 0
        with corpus_writer(folder) as writer:
            for text in _read(val_path, None, show):
                held_out.add(document_key(text))
                writer.add("validation", text)
            for key, text in unique(_read(self.path, self.max_bytes, show)):
                if key in held_out:
                    num_dropped += 1
                else:
                    writer.add("training", text)
        return finish_corpus(
            folder,
            writer,
            split_rule=GIVEN,
            duplicates_removed=unique.num_removed,
            training_documents_dropped=num_dropped,
            official_validation=None,
            remedy="give other files by data.path=... and data.val_path=...",
        )

    def _divided(self, folder: Path, show: bool) -> Corpus:
        # Twice through the files instead of all text in memory.
        unique = Unique()
        for _ in unique(_read(self.path, self.max_bytes, show)):
            pass
        total = sum(unique.sizes.values())
        chosen = choose_validation(unique.sizes, total * self.val_fraction)
        with corpus_writer(folder) as writer:
            for key, text in Unique()(_read(self.path, self.max_bytes, show)):
                writer.add("validation" if key in chosen else "training", text)
        return finish_corpus(
            folder,
            writer,
            split_rule=BY_HASH.format(share=self.val_fraction),
            duplicates_removed=unique.num_removed,
            training_documents_dropped=0,
            official_validation=None,
            remedy=f"{self.path} needs two different documents at least, or give data.val_path=...",
        )


def _identity(file: Path) -> dict[str, Any]:
    facts = file.stat()
    return {"path": str(file.resolve()), "size": facts.st_size, "mtime_ns": facts.st_mtime_ns}


def _read(path: Path, max_bytes: int | None, show: bool) -> Iterator[str]:
    """Documents with a progress bar, until they have max_bytes."""
    total, taken = sum(file.stat().st_size for file in find_files(path)), 0
    with track("documents", total / 1e6, "MB", show) as bar:
        for text in read_documents(path, lambda num_bytes: bar.advance(num_bytes / 1e6)):
            yield text
            taken += len(text.encode("utf-8"))
            if max_bytes is not None and taken >= max_bytes:
                return
