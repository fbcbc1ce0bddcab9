"""What a verification finds: checks, and faults with file, offset and remedy."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from pgolf.data.shards import HEADER_BYTES, VALUE

MOST_FAULTS = 5  # of a check are told in words, the rest are counted


@dataclass(frozen=True)
class Fault:
    """Something that is not as it should be.

    Args:
        offset: byte of the file where it begins.
    """

    file: str
    offset: int
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}, byte {self.offset}: {self.what}: {self.remedy}"


@dataclass
class Check:
    """One question about a folder.

    Attributes:
        about: what was looked at, or why nothing was.
        skipped: the check was not possible, because of another fault or of something missing.
        num_faults: all of them, also beyond those in `faults`.
    """

    name: str
    about: str = ""
    skipped: bool = False
    faults: list[Fault] = field(default_factory=list)
    num_faults: int = 0

    def fault(self, file: Path | str, offset: int, what: str, remedy: str) -> None:
        self.num_faults += 1
        if len(self.faults) < MOST_FAULTS:
            what = what.removeprefix(f"{file}: ")
            self.faults.append(Fault(str(file), offset, what, remedy))

    def skip(self, reason: str) -> Check:
        self.skipped, self.about = True, f"not checked: {reason}"
        return self


@dataclass(frozen=True)
class Files:
    """Shards of a split that can be read, one after the other, and the sidecars of these.

    Args:
        paths: of the token files.
        ids, counts: their values, uint16 each; counts is None for training, or where a sidecar
            does not fit its tokens.
        sidecars: paths, as many as counts.
        whole: no shard of the split is missing or cannot be read.
        has_sidecars: nor a sidecar, if the split has them.
    """

    paths: list[Path]
    ids: list[np.ndarray]
    sidecars: list[Path]
    counts: list[np.ndarray] | None
    whole: bool
    has_sidecars: bool = True

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *np.cumsum([len(ids) for ids in self.ids]).tolist()]

    @property
    def num_tokens(self) -> int:
        return self._starts[-1]

    def pieces(self, tokens: range) -> Iterator[np.ndarray]:
        """Ids at some positions of the split, a piece a shard."""
        shard = bisect_right(self._starts, tokens.start) - 1
        while shard < len(self.ids) and self._starts[shard] < tokens.stop:
            start = self._starts[shard]
            yield self.ids[shard][max(0, tokens.start - start) : tokens.stop - start]
            shard += 1

    def place(self, position: int, sidecar: bool = False) -> tuple[Path, int]:
        """File and byte offset of a token of the split, or of its byte count."""
        shard = min(bisect_right(self._starts, position), len(self.ids)) - 1
        paths = self.sidecars if sidecar else self.paths
        return paths[shard], HEADER_BYTES + VALUE.itemsize * (position - self._starts[shard])
