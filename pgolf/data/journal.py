"""journal.json: the finished files of a preparation, so that the same command makes only the rest.

A file whose size and time are those that were written down is taken for whole; another one is
hashed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pgolf.data.manifest import File, Shard
from pgolf.errors import UserError
from pgolf.files import sha256_file, write_json

JOURNAL = "journal.json"


@dataclass(frozen=True)
class Counts:
    """How many documents of a split were taken, from its beginning on.

    Args:
        documents: all of them.
        exact: those that decode to what they were (counted for validation alone).
        dropped, dropped_bytes: those that no shard holds, and their UTF-8 bytes.
    """

    documents: int = 0
    exact: int = 0
    dropped: int = 0
    dropped_bytes: int = 0


@dataclass(frozen=True)
class Entry:
    """A finished shard, and where in the documents the next one begins.

    Args:
        counts: of the documents that lie wholly in this shard and those before it.
        skip_tokens: tokens of the next document that do, too.
    """

    shard: Shard
    counts: Counts
    skip_tokens: int


class Journal:
    """The finished shards of both splits; written anew, atomically, with each.

    Args:
        folder: of the shards.
        identity: what decides them. With another one than was written down the journal is empty;
            None takes that one.

    Attributes:
        tokenizer: fingerprint of the one that made the shards, None if nothing has begun.
    """

    def __init__(self, folder: Path, identity: dict[str, Any] | None = None) -> None:
        self.folder, self.identity = folder, identity
        self.tokenizer: str | None = None
        self._entries: dict[str, list[Entry]] = {}
        self._others: list[File] = []
        self._times: dict[str, int] = {}
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            written = json.loads((folder / JOURNAL).read_text(encoding="utf-8"))
            if identity in (None, written["identity"]):
                self._read(written)

    def _read(self, written: dict[str, Any]) -> None:
        entries = {
            split: [_entry(values) for values in found]
            for split, found in written["splits"].items()
        }
        others = [File(**values) for values in written["others"]]
        self._times, self.identity = dict(written["times"]), written["identity"]
        self._entries, self._others, self.tokenizer = entries, others, written["tokenizer"]

    @property
    def finished(self) -> bool:
        """All is done."""
        return bool(self._others)

    def damaged(self) -> list[str]:
        """Of a finished preparation: names of files that are missing or not as they were."""
        shards = [entry.shard for entries in self._entries.values() for entry in entries]
        files = [file for shard in shards for file in shard.files()] + self._others
        times = dict(self._times)
        damaged = [file.path for file in files if not self._is_whole(file)]
        if self._times != times:
            with suppress(UserError, OSError):  # a folder that is read only: they are hashed again
                self.save()
        return damaged

    def whole(self, split: str) -> list[Entry]:
        """Entries of a split up to the first whose files are not what was written down."""
        whole = []
        for entry in self._entries.get(split, []):
            if not all(map(self._is_whole, entry.shard.files())):
                break
            whole.append(entry)
        self._entries[split] = whole
        return list(whole)

    def kept(self) -> list[Shard]:
        """Whole shards of both splits."""
        return [entry.shard for split in list(self._entries) for entry in self.whole(split)]

    def begin(self, tokenizer: str) -> None:
        """Shards are made with this tokenizer; those of another one are forgotten."""
        if tokenizer != self.tokenizer:
            self.tokenizer, self._entries = tokenizer, {}
        self.save()

    def add(self, split: str, entry: Entry) -> None:
        self._entries.setdefault(split, []).append(entry)
        self._others = []
        self._note(entry.shard.files())
        self.save()

    def finish(self, names: Iterable[str]) -> None:
        """All is done, and these files are there besides the shards."""
        self._others = [File.of(self.folder, name) for name in names]
        self._note(self._others)
        self.save()

    def save(self) -> None:
        splits = {name: [asdict(e) for e in entries] for name, entries in self._entries.items()}
        facts = {"identity": self.identity, "tokenizer": self.tokenizer, "splits": splits}
        others = [asdict(file) for file in self._others]
        write_json(self.folder / JOURNAL, {**facts, "others": others, "times": self._times})

    def _note(self, files: Iterable[File]) -> None:
        for file in files:
            self._times[file.path] = (self.folder / file.path).stat().st_mtime_ns

    def _is_whole(self, file: File) -> bool:
        path = self.folder / file.path
        if not path.is_file() or path.stat().st_size != file.size:
            return False
        time = path.stat().st_mtime_ns
        if time != self._times.get(file.path):
            if sha256_file(path) != file.sha256:
                return False
            self._times[file.path] = time
        return True


def _entry(values: dict[str, Any]) -> Entry:
    shard = values["shard"]
    sidecar = File(**shard["sidecar"]) if shard["sidecar"] else None
    numbers = shard["num_tokens"], shard["raw_bytes"]
    made = Shard(File(**shard["tokens"]), sidecar, *numbers)
    return Entry(made, Counts(**values["counts"]), values["skip_tokens"])
