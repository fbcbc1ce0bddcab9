"""DISJOINT: whether training text and validation text have documents in common."""

from __future__ import annotations

import hashlib

import numpy as np

from pgolf.audit.documents import spans, starts_of
from pgolf.audit.finding import Finding
from pgolf.audit.probe import failed, passed, undecided
from pgolf.audit.subject import DataFolder, Subject

# Tokens of a window, which is looked for in training; the multiplier of its hash is odd.
WINDOW, MULTIPLIER = 32, np.uint64(0x9E3779B97F4A7C15)
SHORT = 16  # documents of fewer tokens are alike by chance
# Shares of a document's windows: most of it, nearly all; and of documents that may be copies.
MOSTLY, NEARLY_ALL, COPIED = 0.5, 0.8, 0.25


class Disjoint:
    """Compares hashes of all documents, by their tokens and where they are there by their text.

    Args:
        max_training_tokens: looked at, from the beginning; null: all.
        near: look at all windows of the text for documents most of which is in training; else at
            a sample that the text itself decides, so that equal text has equal samples.
        most_near: share of validation documents that may be so before somebody has to look.
    """

    name = "DISJOINT"

    def __init__(
        self, *, max_training_tokens: int | None, near: bool, most_near: float = 0.05
    ) -> None:
        self.max_training_tokens, self.near, self.most_near = max_training_tokens, near, most_near

    def check(self, subject: Subject) -> Finding:
        """Equal documents fail; nearly equal ones are counted, and too many leave it undecided."""
        data = subject.data
        if data is None or not data.manifest.training.shards:
            return undecided(self, "The training tokens are not there.", "overlap of the splits")
        validation, training = data.tokens("validation"), data.tokens("training")
        left = []
        if subject.kind == "run" and not subject.closed_to_evaluation("filesystem"):
            left.append("whether the evaluation read training text: nothing kept it from that")
        if self.max_training_tokens is not None and len(training) > self.max_training_tokens:
            left.append(f"training tokens beyond {self.max_training_tokens:,} of {len(training):,}")
            training = training[: self.max_training_tokens]
        bos = data.bos_id
        known = {key: number for number, key in enumerate(_keys(validation, bos))}
        for number, key in enumerate(_keys(training, bos)):
            if key in known:
                return failed(
                    self,
                    f"Training document {number} is validation document {known[key]}.", left,
                    training_document=number, validation_document=known[key],
                    overlapping=_overlap(known, training, bos), documents=len(known),
                )  # fmt: skip
        shared = self._texts(data)
        if shared is not None:
            return shared
        return self._near(validation, training, bos, left)

    def _texts(self, data: DataFolder) -> Finding | None:
        """Equal texts that a tokenizer with a fault might encode differently."""
        validation, training = data.texts("validation"), data.texts("training")
        if validation is None or training is None or self.max_training_tokens is not None:
            return None
        known = {_digest(text.encode("utf-8")): n for n, text in enumerate(validation)}
        for number, text in enumerate(training):
            if (key := _digest(text.encode("utf-8"))) in known:
                return failed(
                    self, f"The text of training document {number} is in validation.",
                    training_document=number, validation_document=known[key],
                )  # fmt: skip
        return None

    def _near(
        self, validation: np.ndarray, training: np.ndarray, bos: int, left: list[str]
    ) -> Finding:
        places = _places(validation, self.near)
        seen = np.unique(_windows(training, _places(training, self.near)))
        hit = np.isin(_windows(validation, places), seen)
        starts = starts_of(validation, bos)
        first = np.searchsorted(places, starts)
        last = np.searchsorted(places, np.append(starts[1:], len(validation)) - WINDOW)
        shares = [
            float(hit[a:b].mean()) if b > a else 0.0 for a, b in zip(first, last, strict=True)
        ]
        near = [number for number, share in enumerate(shares) if share > MOSTLY]
        copies = [number for number, share in enumerate(shares) if share > NEARLY_ALL]
        witness = {
            "documents": len(starts), "near": len(near), "first_near": near[:1],
            "nearly_whole": len(copies),
        }  # fmt: skip
        if len(copies) > COPIED * len(starts):
            what = f"{len(copies):,} of {len(starts):,} validation documents are in training text."
            return failed(self, what, left, first_copy=copies[0], **witness)
        if len(near) > self.most_near * len(starts):
            what = (
                f"{len(near):,} of {len(starts):,} validation documents are mostly in training: "
                "copies, or text that repeats itself."
            )
            return undecided(self, what, *left, "which of the two it is", **witness)
        if not self.near:
            left.append("documents that are nearly the same, but for a sample of their windows")
        what = (
            f"None of {len(starts):,} validation documents is a training document; {len(near):,} "
            "are mostly in one."
        )
        return passed(self, what, left, **witness)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:16]


def _keys(ids: np.ndarray, bos: int) -> list[bytes]:
    """A hash of each document; short ones get one that no other has."""
    keys = []
    for number, (start, end) in enumerate(spans(starts_of(ids, bos), len(ids))):
        body = ids[start + 1 : end].tobytes()
        alone = b"" if end - start > SHORT else f"{number}/{id(ids)}".encode()
        keys.append(_digest(alone + body))
    return keys


def _overlap(known: dict[bytes, int], training: np.ndarray, bos: int) -> int:
    """How many validation documents are in training."""
    return len(known.keys() & set(_keys(training, bos)))


def _places(ids: np.ndarray, all_of_them: bool) -> np.ndarray:
    """Where windows begin: everywhere, or where the hash of a pair of tokens is one of sixteen."""
    count = max(0, len(ids) - WINDOW + 1)
    if all_of_them or count < 1:
        return np.arange(count)
    a, b = (ids[offset : offset + count].astype(np.uint32) for offset in (0, 1))
    mixed = (a * np.uint32(40503) + b) * np.uint32(2654435761)
    return np.flatnonzero(mixed >> np.uint32(28) == 0)


def _windows(ids: np.ndarray, places: np.ndarray) -> np.ndarray:
    """A hash of the tokens from each place on, uint64 [places]."""
    hashes = np.zeros(len(places), np.uint64)
    for offset in range(WINDOW):
        part = ids[places + offset].astype(np.uint64)
        hashes = hashes * MULTIPLIER + part + np.uint64(1)
    return hashes
