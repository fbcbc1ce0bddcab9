"""COVER: whether the whole validation text was scored, and no other."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from pgolf.audit.documents import spans, starts_of
from pgolf.audit.finding import Finding
from pgolf.audit.probe import failed, passed, undecided
from pgolf.audit.subject import DataFolder, Subject
from pgolf.data.manifest import File

OFFICIAL_DOCUMENTS = 50_000
READ_BYTES = 1 << 20
# Documents of so few tokens may well be alike; some others may be, in text that nobody cleaned.
SHORT, MOST_REPEATED, MOST_REPEATED_SHARE = 16, 2, 0.02


class Cover:
    """Compares the scored tokens with the shards, these with the manifest and the documents.

    Args:
        hashes: compare the sha256 of the validation shards with the manifest's.
    """

    name = "COVER"

    def __init__(self, *, hashes: bool) -> None:
        self.hashes = hashes

    def check(self, subject: Subject) -> Finding:
        """Files, then documents, then the score."""
        if subject.data is None:
            return undecided(self, "The validation tokens are not there.", "what was scored")
        wrong = (
            self._files(subject.data)
            or self._text(subject.data)
            or self._repeats(subject.data)
            or self._score(subject)
            or self._positions(subject)
        )
        if wrong is not None:
            return wrong
        data, left = subject.data, []
        if not self.hashes:
            left.append("hashes of the validation shards")
        if data.documents is None:
            left.append("whether the shards have all raw documents, which are not there")
        if subject.result is None:
            left.append("a score: there is no result")
        if subject.times_scored is None:
            left.append("which positions the windows score")
        num_tokens, documents = len(data.tokens("validation")), data.manifest.validation
        return passed(
            self, f"All {num_tokens - 1:,} validation tokens are scored.", left,
            tokens=num_tokens - 1, documents=documents.num_documents,
        )  # fmt: skip

    def _files(self, data: DataFolder) -> Finding | None:
        sidecars: set[str] = set()
        for shard in data.manifest.validation.shards:
            sidecars |= {shard.sidecar.sha256} if shard.sidecar else set()
        for shard in data.manifest.validation.shards:
            for file in shard.files():
                wrong = self._file(data.folder, file)
                if wrong is not None:
                    return wrong
            if shard.tokens.sha256 in sidecars:
                return failed(
                    self, "A byte sidecar is read as tokens.", file=shard.tokens.path
                )  # fmt: skip
        return None

    def _file(self, folder: Path, file: File) -> Finding | None:
        path = folder / file.path
        if not path.is_file():
            return failed(self, f"{path.name} is missing.", file=str(path))
        size = path.stat().st_size
        if size != file.size:
            return failed(
                self, f"{path.name} has another size than when it was made.",
                file=str(path), bytes=size, manifest_bytes=file.size,
            )  # fmt: skip
        if self.hashes and (found := _sha256(path)) != file.sha256:
            return failed(
                self, f"{path.name} is not the file that was made: its sha256 differs.",
                file=str(path), sha256=found, manifest_sha256=file.sha256,
            )  # fmt: skip
        return None

    def _text(self, data: DataFolder) -> Finding | None:
        ids, split = data.tokens("validation"), data.manifest.validation
        num_documents = len(starts_of(ids, data.bos_id))
        expected = split.num_documents
        if data.manifest.official_validation:
            expected = OFFICIAL_DOCUMENTS
        if expected is not None and num_documents != expected:
            return failed(
                self, f"Validation is truncated or is another one: {num_documents:,} documents.",
                documents=num_documents, expected_documents=expected,
            )  # fmt: skip
        texts = data.texts("validation")
        if texts is None:
            return None
        raw = sum(1 for _ in texts)
        if raw != num_documents:
            return failed(
                self, f"The shards have {num_documents:,} of {raw:,} validation documents.",
                documents=num_documents, expected_documents=raw, position=len(ids),
            )  # fmt: skip
        return None

    def _repeats(self, data: DataFolder) -> Finding | None:
        """Sources drop documents that came before: many that come again were put there."""
        ids, seen = data.tokens("validation"), dict[bytes, int]()
        repeated: list[tuple[int, int]] = []
        starts = starts_of(ids, data.bos_id)
        for number, (start, end) in enumerate(spans(starts, len(ids))):
            if end - start <= SHORT:
                continue
            key = hashlib.sha256(ids[start:end].tobytes()).digest()
            if (first := seen.setdefault(key, number)) != number:
                repeated.append((first, number))
        if len(repeated) <= max(MOST_REPEATED, MOST_REPEATED_SHARE * len(starts)):
            return None
        first, again = repeated[0]
        return failed(
            self, f"{len(repeated):,} of {len(starts):,} validation documents are repeated.",
            repeated=len(repeated), first_document=first, again_document=again,
            position=int(starts[again]),
        )  # fmt: skip

    def _positions(self, subject: Subject) -> Finding | None:
        """Every position is scored by one window, by the evaluator that the run names."""
        if subject.times_scored is None or subject.data is None:
            return None
        times = subject.times_scored(len(subject.data.tokens("validation")) - 1)
        wrong = np.flatnonzero(times != 1)
        if not len(wrong):
            return None
        first = int(wrong[0])
        return failed(
            self, f"Position {first} is scored {times[first]} times, {len(wrong):,} are not once.",
            position=first, times=int(times[first]), positions=len(wrong),
        )  # fmt: skip

    def _score(self, subject: Subject) -> Finding | None:
        final = ((subject.result or {}).get("bpb") or {}).get("final")
        if final is None or subject.data is None:
            return None
        available = len(subject.data.tokens("validation")) - 1
        if final["tokens"] != available:
            return failed(
                self, f"{final['tokens']:,} of {available:,} validation tokens are scored.",
                scored_tokens=final["tokens"], tokens=available,
                position=min(available, final["tokens"]),
            )  # fmt: skip
        return None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
