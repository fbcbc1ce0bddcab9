"""journal.json: the shards of a preparation that are finished, so that a killed one goes on."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pgolf.data.manifest import File, Shard
from pgolf.files import sha256_file, write_json

JOURNAL = "journal.json"


@dataclass(frozen=True)
class Entry:
    """A finished shard, and where in the documents the next one begins.

    Args:
        num_documents: documents of the split that lie wholly in this shard and those before it.
        skip_tokens: tokens of the next document that do, too.
        num_exact: of the num_documents, how many decode to what they were.
    """

    shard: Shard
    num_documents: int
    skip_tokens: int
    num_exact: int


class Journal:
    """The finished shards of both splits; written anew, atomically, with each.

    Args:
        folder: of the shards.
        identity: what decides them. With another one than was written down the journal is empty.

    Attributes:
        found: a preparation of this identity has begun in the folder.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder, self.identity, self.found = folder, identity, False
        self._entries: dict[str, list[Entry]] = {}
        with suppress(OSError, ValueError, KeyError, TypeError, AssertionError):
            written = json.loads((folder / JOURNAL).read_text(encoding="utf-8"))
            if written["identity"] == identity:
                for split, entries in written["splits"].items():
                    self._entries[split] = [_entry(values) for values in entries]
                self.found = True

    def whole(self, split: str) -> list[Entry]:
        """Entries of a split up to the first whose files are not what was written down."""
        whole = []
        for entry in self._entries.get(split, []):
            if not all(_is_whole(self.folder / f.path, f) for f in entry.shard.files()):
                break
            whole.append(entry)
        self._entries[split] = whole
        return list(whole)

    def kept(self) -> list[Shard]:
        """Whole shards of both splits."""
        return [entry.shard for split in list(self._entries) for entry in self.whole(split)]

    def add(self, split: str, entry: Entry) -> None:
        self._entries.setdefault(split, []).append(entry)
        self.save()

    def save(self) -> None:
        splits = {name: [asdict(e) for e in entries] for name, entries in self._entries.items()}
        write_json(self.folder / JOURNAL, {"identity": self.identity, "splits": splits})

    def remove(self) -> None:
        """When all is done, the manifest says it better."""
        (self.folder / JOURNAL).unlink(missing_ok=True)


def _entry(values: dict[str, Any]) -> Entry:
    shard = values["shard"]
    files = [File(**shard[key]) if shard[key] else None for key in ("tokens", "sidecar")]
    tokens, sidecar = files
    assert tokens is not None
    counts = shard["num_tokens"], shard["raw_bytes"]
    return Entry(**{**values, "shard": Shard(tokens, sidecar, *counts)})


def _is_whole(path: Path, file: File) -> bool:
    whole = path.is_file() and path.stat().st_size == file.size
    return whole and sha256_file(path) == file.sha256
