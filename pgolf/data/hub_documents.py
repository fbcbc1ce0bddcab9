"""`data=fineweb_docs`: the published raw documents, for a tokenizer of your own.

The first 50,000 are validation, as in every published set; the rest is the ordinary path of text
files (local.py).
"""

from __future__ import annotations

import functools
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pgolf.data import hub
from pgolf.data.corpus import CORPUS, Corpus
from pgolf.data.hub_record import Record
from pgolf.data.local import LocalText
from pgolf.data.manifest import Manifest
from pgolf.files import write_json
from pgolf.protocols import Tokenizer

VERSION = 1  # raised whenever the same file would give other documents
# Whether published counts are of the text as it is or with white space at its ends removed is not
# known for every source of them, so some is allowed for.
SLACK_BYTES = 1 << 16


class PublishedDocuments:
    """A file of documents from the hub, divided by their number.

    Args:
        path: the folder.
        name: of the set, for `pgolf data get`.
        repository, file: on the hub, and the name of the file in it.
        val_documents: the first ones are validation.
        val_bytes: published UTF-8 bytes of these; with others validation is not the official one.
        max_bytes: use only the first documents, validation included, until they have so many
            UTF-8 bytes; None uses all. The file is fetched whole, its hash is of the whole.
    """

    def __init__(
        self,
        *,
        path: str,
        name: str,
        repository: str,
        file: str,
        val_documents: int,
        val_bytes: int,
        max_bytes: int | None = None,
    ) -> None:
        self.path, self.file = Path(path).expanduser(), file
        self.val_documents, self.val_bytes = val_documents, val_bytes
        self.max_bytes = max_bytes
        self.place = hub.Place(name, repository, self.path, file)
        self.text = LocalText(
            path=str(self.path / file), val_rule=f"first:{val_documents}", max_bytes=max_bytes
        )

    def check(self) -> None:
        """Read the first document; where the file is missing, ask the hub for it.

        Raises:
            UserError: a setting is out of range, the file is damaged, or it is missing and the hub
                cannot help.
        """
        hub.recheck(self.path)
        if self._missing():
            self._plan()
            return
        if why := hub.told_offline():
            self._require_whole(why)
        self.text.check()

    def cache_key(self) -> dict[str, Any]:
        """The same before and after a download."""
        return {
            "source": "published documents",
            "version": VERSION,
            "val_documents": self.val_documents,
            "val_bytes": self.val_bytes,
            "max_bytes": self.max_bytes,
            "file": hub.identity(self.path / self.file),
        }

    def documents(self, folder: Path, show: bool) -> Corpus:
        """Fetch the file where it is missing, then divide it.

        Raises:
            UserError: it cannot be fetched or read, or nothing is left for training.
        """
        record = Record.load(self.path)
        if record is None and self._missing():
            record = self._plan()
        if record is not None:
            hub.fetch(self.place, record, [self.file], show)
        corpus = self.text.documents(folder, show)
        corpus = replace(corpus, official_validation=self.is_official(corpus))
        write_json(folder / CORPUS, asdict(corpus))
        return corpus

    def tokenize(self, documents: Path, tokenizer: Tokenizer, folder: Path, show: bool) -> Manifest:
        return self.text.tokenize(documents, tokenizer, folder, show)

    def download(self, show: bool, offline: bool = False) -> dict[str, Any]:
        """Fetch the file, or compare the one that lies there with the hub's.

        Raises:
            UserError: as `hub.plan` and `hub.fetch`; `offline` fails only if the file is missing
                or, by hub.json, has changed.
        """
        if (why := hub.told_offline(offline)) and not self._missing():
            self._require_whole(why)
            return hub.answer(self.place, Record.load(self.path), [])
        record = self._plan(offline)
        return hub.answer(self.place, record, hub.fetch(self.place, record, [self.file], show))

    def is_official(self, corpus: Corpus) -> bool:
        """Whether validation has the published number of documents and bytes."""
        more_bytes = corpus.document_bytes["validation"] - self.val_bytes
        return (
            corpus.num_documents["validation"] == self.val_documents
            and abs(more_bytes) <= SLACK_BYTES
        )

    def _missing(self) -> list[str]:
        return [] if (self.path / self.file).exists() else [self.file]

    def _require_whole(self, why: str) -> None:
        if record := Record.load(self.path):
            hub.require_whole(self.place, record, [self.file], why)

    def _plan(self, offline: bool = False) -> Record:
        choose = functools.partial(hub.choose_file, place=self.place, name=self.file)
        return hub.plan(self.place, choose, self._missing(), offline)
