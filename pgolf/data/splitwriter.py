"""A split's encoded documents, cut into shards of equal length, journaled as each is finished."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np

from pgolf.data.journal import Counts, Entry, Journal
from pgolf.data.manifest import File, Shard
from pgolf.data.seen import Seen
from pgolf.data.shards import shard_writer


@dataclass(frozen=True)
class Encoded:
    """Some documents, one after the other.

    Args:
        ids, raw_bytes: uint16 [n] each.
        lengths: tokens of each document with its BOS, int64 [documents]; 0 for a dropped one.
        sizes: UTF-8 bytes of each document, int64 [documents].
        exact: whether each decodes to what it was, bool [documents].
        keys: of each document's ids, see `key_of_ids`.
    """

    ids: np.ndarray
    raw_bytes: np.ndarray
    lengths: np.ndarray
    sizes: np.ndarray
    exact: np.ndarray
    keys: list[bytes]

    @property
    def num_exact(self) -> int:
        return int(self.exact.sum())

    def without(self, dropped: Seen) -> Encoded:
        """The documents with none of the tokens of those whose keys are given."""
        drop = np.array([key in dropped for key in self.keys], bool)
        if not drop.any():
            return self
        kept, lengths = ~np.repeat(drop, self.lengths), np.where(drop, 0, self.lengths)
        return replace(self, ids=self.ids[kept], raw_bytes=self.raw_bytes[kept], lengths=lengths)

    def added_to(self, counts: Counts, documents: int) -> Counts:
        """The counts with the first so many of these documents."""
        dropped = self.lengths[:documents] == 0
        return Counts(
            counts.documents + documents,
            counts.exact + int(self.exact[:documents].sum()),
            counts.dropped + int(dropped.sum()),
            counts.dropped_bytes + int(self.sizes[:documents][dropped].sum()),
        )


class SplitWriter:
    """Takes the documents of a split in their order; the last shard takes the rest.

    Args:
        journal: its folder gets the shards, its whole entries are kept and gone on from.
        split: name in the journal.
        prefix: of the files' names.
        sidecar: whether raw bytes of each token are written, too.
        shard_tokens: most tokens of a shard.

    Attributes:
        counts: as in `Entry`, of the last token that was written.
    """

    def __init__(
        self, journal: Journal, split: str, prefix: str, sidecar: bool, shard_tokens: int
    ) -> None:
        self.journal, self.split, self.prefix = journal, split, prefix
        self.sidecar, self.shard_tokens = sidecar, shard_tokens
        kept = journal.whole(split)
        self.shards = [entry.shard for entry in kept]
        self.counts = kept[-1].counts if kept else Counts()
        self._skip_tokens = kept[-1].skip_tokens if kept else 0
        self._open: ExitStack | None = None
        self._num_tokens = self._raw_bytes = 0

    def __enter__(self) -> SplitWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        if self._open is None:
            return
        if kind is None:
            self._finish()
        else:  # unfinished files are removed by their writers
            self._open.__exit__(kind, *details)  # type: ignore[arg-type]

    def append(self, encoded: Encoded) -> None:
        """Write documents; of the first one, what is in a kept shard already is left out."""
        ends, before = np.cumsum(encoded.lengths), self.counts
        start, num_tokens = self._skip_tokens, len(encoded.ids)
        while start < num_tokens:
            if self._num_tokens == self.shard_tokens:
                self._finish()
            if self._open is None:
                self._begin()
            stop = min(num_tokens, start + self.shard_tokens - self._num_tokens)
            self._write(encoded.ids[start:stop], encoded.raw_bytes[start:stop])
            whole = int(np.searchsorted(ends, stop, side="right"))
            self.counts = encoded.added_to(before, whole)
            self._skip_tokens = stop - (int(ends[whole - 1]) if whole else 0)
            start = stop
        # The same again, but where all of them were dropped and nothing was written.
        self.counts, self._skip_tokens = encoded.added_to(before, len(encoded.lengths)), 0

    def _write(self, ids: np.ndarray, raw_bytes: np.ndarray) -> None:
        self._tokens.append(ids)
        if self.sidecar:
            self._counts.append(raw_bytes)
        self._num_tokens += len(ids)
        self._raw_bytes += int(raw_bytes.sum(dtype=np.int64))

    def _names(self) -> tuple[str, str]:
        number = f"{len(self.shards):06d}.bin"
        return f"{self.prefix}_{number}", f"{self.prefix}_bytes_{number}"

    def _begin(self) -> None:
        folder, (tokens, counts) = self.journal.folder, self._names()
        self._num_tokens = self._raw_bytes = 0
        self._open = ExitStack()
        self._tokens = self._open.enter_context(shard_writer(folder / tokens))
        if self.sidecar:
            self._counts = self._open.enter_context(shard_writer(folder / counts))

    def _finish(self) -> None:
        assert self._open is not None
        self._open.close()
        self._open = None
        folder, (tokens, counts) = self.journal.folder, self._names()
        sidecar = File.of(folder, counts) if self.sidecar else None
        shard = Shard(File.of(folder, tokens), sidecar, self._num_tokens, self._raw_bytes)
        self.shards.append(shard)
        self.journal.add(self.split, Entry(shard, self.counts, self._skip_tokens))
        self._num_tokens = 0
