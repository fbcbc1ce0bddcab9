"""A split's encoded documents, cut into shards of equal length, journaled as each is finished."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from pgolf.data.journal import Entry, Journal
from pgolf.data.manifest import File, Shard
from pgolf.data.shards import shard_writer


@dataclass(frozen=True)
class Encoded:
    """Some documents, one after the other.

    Args:
        ids, raw_bytes: uint16 [n] each.
        lengths: tokens of each document with its BOS, int64 [documents].
        exact: whether each decodes to what it was, bool [documents].
    """

    ids: np.ndarray
    raw_bytes: np.ndarray
    lengths: np.ndarray
    exact: np.ndarray

    @property
    def num_exact(self) -> int:
        return int(self.exact.sum())


class SplitWriter:
    """Takes the documents of a split in their order; the last shard takes the rest.

    Args:
        journal: its folder gets the shards, its whole entries are kept and gone on from.
        split: name in the journal.
        prefix: of the files' names.
        sidecar: whether raw bytes of each token are written, too.
        shard_tokens: most tokens of a shard.

    Attributes:
        num_documents, num_exact: as in `Entry`, of the last token that was written.
    """

    def __init__(
        self, journal: Journal, split: str, prefix: str, sidecar: bool, shard_tokens: int
    ) -> None:
        self.journal, self.split, self.prefix = journal, split, prefix
        self.sidecar, self.shard_tokens = sidecar, shard_tokens
        kept = journal.whole(split)
        self.shards = [entry.shard for entry in kept]
        self.num_documents = kept[-1].num_documents if kept else 0
        self.num_exact = kept[-1].num_exact if kept else 0
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
        ends, before = np.cumsum(encoded.lengths), (self.num_documents, self.num_exact)
        start, num_tokens = self._skip_tokens, len(encoded.ids)
        while start < num_tokens:
            if self._num_tokens == self.shard_tokens:
                self._finish()
            if self._open is None:
                self._begin()
            stop = min(num_tokens, start + self.shard_tokens - self._num_tokens)
            self._write(encoded.ids[start:stop], encoded.raw_bytes[start:stop])
            whole = int(np.searchsorted(ends, stop, side="right"))
            self.num_documents = before[0] + whole
            self.num_exact = before[1] + int(encoded.exact[:whole].sum())
            self._skip_tokens = stop - (int(ends[whole - 1]) if whole else 0)
            start = stop

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
        place = self.num_documents, self._skip_tokens, self.num_exact
        self.journal.add(self.split, Entry(shard, *place))
        self._num_tokens = 0
