"""`data=local data.path=...`: your own text files."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pgolf.data.corpus import Corpus, corpus_writer, finish_corpus
from pgolf.data.documents import Document, find_files, read_documents, read_records
from pgolf.data.manifest import Manifest
from pgolf.data.split import RULES, FromFile, Rule, divide, parse_rule
from pgolf.data.tokenize import tokenize_documents
from pgolf.errors import UserError
from pgolf.progress import track
from pgolf.protocols import Tokenizer

VERSION = 3  # raised whenever the same files would give other documents


class LocalText:
    """Documents of files; see `read_documents` for the formats.

    Of documents with the same text one stays, and a training document that is in validation too
    is dropped. Validation that is given by itself stays as it is: scores on it are compared.

    Args:
        path: a file or folder.
        val_path: file or folder of the validation documents; None takes some of `path`.
        val_rule: which of `path` these are, where val_path is None: `hash:PART` (of the bytes, by
            order of their hashes), `first:COUNT` or `source:NAME`; `file:PATH` is val_path.
        max_bytes: read only the first documents of `path`, until they have so many UTF-8 bytes.
    """

    def __init__(
        self,
        *,
        path: str,
        val_path: str | None = None,
        val_rule: str = "hash:0.02",
        max_bytes: int | None = None,
    ) -> None:
        self.path, self.max_bytes = Path(path).expanduser(), max_bytes
        self.val_rule = val_rule if val_path is None else f"file:{val_path}"

    def check(self) -> None:
        """Read the first document of each path.

        Raises:
            UserError: a setting is out of range, or a path is missing or not readable.
        """
        if self.max_bytes is not None and self.max_bytes < 1:
            raise UserError(f"data.max_bytes={self.max_bytes}: expected 1 or more, or null for all")
        for path in self._paths():
            next(read_documents(path))

    def _rule(self) -> Rule:
        return parse_rule(self.val_rule, "data.val_rule=")

    def _paths(self) -> list[Path]:
        rule = self._rule()
        return [self.path, *([rule.path] if isinstance(rule, FromFile) else [])]

    def cache_key(self) -> dict[str, Any]:
        return {
            "source": "local",
            "version": VERSION,
            "val_rule": self.val_rule,
            "max_bytes": self.max_bytes,
            "files": [[_identity(file) for file in find_files(path)] for path in self._paths()],
        }

    def documents(self, folder: Path, show: bool) -> Corpus:
        """Read, remove duplicates, divide.

        Raises:
            UserError: a file cannot be read, or nothing is left for a split.
        """
        rule = self._rule()
        with corpus_writer(folder) as writer:
            num_repeated, num_dropped = divide(
                rule, functools.partial(self._read, show), self.path, writer
            )
        return finish_corpus(
            folder,
            writer,
            split_rule=rule.words,
            duplicates_removed=num_repeated,
            training_documents_dropped=num_dropped,
            official_validation=None,
            remedy=f"{self.path} needs different documents for both; give other text or another "
            f"rule ({RULES})",
        )

    def tokenize(self, documents: Path, tokenizer: Tokenizer, folder: Path, show: bool) -> Manifest:
        return tokenize_documents(documents, tokenizer, folder, show)

    def _read(self, show: bool, path: Path, what: str) -> Iterator[Document]:
        """Documents with a progress bar; those of `path` until they have max_bytes."""
        limit = self.max_bytes if path is self.path else None
        total, taken = sum(file.stat().st_size for file in find_files(path)), 0
        with track(what, total / 1e6, "MB", show) as bar:
            for document in read_records(path, lambda num_bytes: bar.advance(num_bytes / 1e6)):
                yield document
                if limit is not None:
                    taken += len(document.text.encode("utf-8"))
                    if taken >= limit:
                        return


def _identity(file: Path) -> dict[str, Any]:
    facts = file.stat()
    return {"path": str(file.resolve()), "size": facts.st_size, "mtime_ns": facts.st_mtime_ns}
