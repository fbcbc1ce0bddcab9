"""What is audited: a run folder, an artifact folder or a scorer, as far as its parts are there.

Probes see nothing else; `pgolf.auditing.runs` fills it in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from pgolf.audit.order import Order
from pgolf.audit.scorer import Scorer
from pgolf.data.manifest import Manifest

MAX_LINE_BYTES = 1 << 28


@dataclass(frozen=True)
class DataFolder:
    """Shards, their manifest and, where they are there, the tokenizer and the raw documents.

    Args:
        folder: of the shards.
        documents: folder of `validation.jsonl.zst` and perhaps `training.jsonl.zst`.
    """

    folder: Path
    documents: Path | None = None

    @cached_property
    def manifest(self) -> Manifest:
        return Manifest.load(self.folder)

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer"

    @cached_property
    def tokenizer_kind(self) -> str:
        """The kind that tokenizer.json names, "" where there is none."""
        path = self.tokenizer / "tokenizer.json"
        if not path.is_file():
            return ""
        return str(json.loads(path.read_text(encoding="utf-8")).get("kind", ""))

    @property
    def bos_id(self) -> int:
        """The id of the stream's first token: every document begins with it."""
        return int(self.tokens("validation")[0])

    @cached_property
    def _validation(self) -> np.ndarray:
        return self._read("validation")

    def tokens(self, split: str) -> np.ndarray:
        """All ids of "validation" or "training": uint16 [n]."""
        return self._validation if split == "validation" else self._read(split)

    def _read(self, split: str) -> np.ndarray:
        shards = getattr(self.manifest, split).shards
        return _joined([self.folder / shard.tokens.path for shard in shards])

    def sidecar(self) -> np.ndarray | None:
        """Raw bytes of each validation token, uint16 [n]; None where no sidecar says."""
        sidecars = [shard.sidecar for shard in self.manifest.validation.shards]
        if not sidecars or None in sidecars:
            return None
        return _joined([self.folder / file.path for file in sidecars if file is not None])

    def texts(self, split: str) -> Iterator[str] | None:
        """The raw documents of a split, None where they are not there."""
        if self.documents is None:
            return None
        path = self.documents / f"{split}.jsonl.zst"
        return _texts(path) if path.is_file() else None


def _joined(paths: list[Path]) -> np.ndarray:
    """Values of shards, read without pgolf's own reader: 256 int32 of header, then uint16."""
    parts = [np.fromfile(path, "<u2", offset=1024) for path in paths]
    return np.concatenate(parts) if parts else np.zeros(0, "<u2")


def _texts(path: Path) -> Iterator[str]:
    with open(path, "rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as reader:
        rest = b""
        while block := reader.read(1 << 20):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                if line.strip():
                    yield json.loads(line)["text"]
        if rest.strip():
            yield json.loads(rest)["text"]


@dataclass(frozen=True)
class ScoredSlice:
    """A scorer to probe, and a text for it.

    Args:
        name: what it is, in words.
        open: makes a new scorer in its first state.
        ids: int64 [n]; the first token is given, all others are predicted.
        borders: positions of the text where a scorer may begin a block or a chunk.
        not_checked: what differs from the real evaluation.
        order: of the scores, decided by the auditor; None: that of the text.
        vocab_size: ids that the text's tokenizer has; None: unknown.
    """

    name: str
    open: Callable[[], Scorer]
    ids: np.ndarray
    borders: list[int] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    order: Order | None = None
    vocab_size: int | None = None


@dataclass(frozen=True)
class Subject:
    """Parts that probes look at; what is None is not there.

    Args:
        kind: "run", "artifact" or "scorer".
        folder: the run folder, the artifact folder, or where the scorer comes from.
        result: content of result.json as it is, not checked.
        events: of events.jsonl.
        config: resolved configuration.
        provenance: content of provenance.json.
        artifact: folder of the shipped files.
        data: the text that was scored, and what was trained on.
        slices: gives scorers over some tokens of text, at most so many as it is asked for.
        rescore: scores the artifact again, in a fresh process; gives `{nats, tokens, bytes, bpb}`.
        code_is_here: whether the shipped code is that of this pgolf, which is probed. False: it is
            not, though the run was made by these very sources; None: another version made it.
        state_of_artifact: the norm of the artifact's weights and buffers.
        times_scored: how often each of so many positions is scored by the run's windows, int64 [n].
        damaged: records that are missing or cannot be read, one plain phrase each.
    """

    kind: str
    folder: Path
    result: dict[str, Any] | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] | None = None
    provenance: dict[str, Any] | None = None
    artifact: Path | None = None
    data: DataFolder | None = None
    slices: Callable[[int], list[ScoredSlice]] | None = None
    rescore: Callable[[], dict[str, Any]] | None = None
    code_is_here: Callable[[], bool | None] | None = None
    state_of_artifact: Callable[[], float] | None = None
    times_scored: Callable[[int], np.ndarray] | None = None
    damaged: list[str] = field(default_factory=list)

    def closed_to_evaluation(self, what: str) -> str | None:
        """The layer that kept the workers from "filesystem" (training text) or "network"."""
        layers = ((self.result or {}).get("provenance") or {}).get("sandbox") or {}
        layer = layers.get(what)
        return None if layer in (None, "not enforced") else str(layer)

    def named(self, event: str) -> list[dict[str, Any]]:
        """The events of one kind."""
        return [row for row in self.events if row.get("event") == event]
