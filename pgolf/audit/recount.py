"""RECOUNT: the bytes that a score is divided by, counted once more by independent code."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pgolf.audit.documents import chosen, spans, starts_of
from pgolf.audit.finding import Finding
from pgolf.audit.pieces import Pieces, read_pieces
from pgolf.audit.probe import failed, passed, undecided
from pgolf.audit.subject import DataFolder, Subject

OFFICIAL_BYTES = 151_074_309  # of the 50,000 FineWeb validation documents
# Tokenizers that normalise decode a little otherwise than the text was: 0.1% on FineWeb. The
# mistakes that are known come to 4% and more.
LOSSY_TOLERANCE = 0.01
LOSSLESS = {"bytes", "caseops_lossless"}
BLANKS = "\u2581\ufffd"


@dataclass(frozen=True)
class Count:
    """One document: its place, bytes by the sidecar, by the pieces and of the raw text."""

    number: int
    start: int
    ids: np.ndarray
    claimed: np.ndarray
    own: np.ndarray
    decoded: str
    raw: str | None


class Recount:
    """Compares the byte sidecar with the tokens' pieces and with the raw documents.

    Args:
        max_documents: looked at, evenly spread; null: all.
    """

    name = "RECOUNT"

    def __init__(self, *, max_documents: int | None) -> None:
        self.max_documents = max_documents

    def check(self, subject: Subject) -> Finding:
        """Sums of the result, then each document."""
        wrong = self._sums(subject)
        if wrong is not None:
            return wrong
        data = subject.data
        if data is None:
            return undecided(self, "The validation tokens are not there.", "bytes of the tokens")
        claimed = data.sidecar()
        if claimed is None:
            return undecided(self, "No byte sidecar is there.", "bytes of the tokens")
        pieces = read_pieces(data.tokenizer)
        if pieces is None:
            return undecided(self, "The tokenizer's pieces are not there.", "bytes of the tokens")
        return self._documents(data, claimed, pieces)

    def _sums(self, subject: Subject) -> Finding | None:
        """The result's own numbers: bytes by nats and bits, and the sidecar's total."""
        for name, score in _scores(subject.result):
            implied = score["nats"] / math.log(2.0) / score["bpb"] if score["bpb"] else 0.0
            if abs(implied - score["bytes"]) > 1e-6 * score["bytes"] + 0.5:
                return failed(
                    self, f"The {name} score's bits per byte are not its nats over its bytes.",
                    where=f"result.json bpb.{name}", bytes=score["bytes"], implied_bytes=implied,
                )  # fmt: skip
        final = dict(_scores(subject.result)).get("final")
        if final is None or subject.data is None:
            return None
        claimed, official = subject.data.sidecar(), subject.data.manifest.official_validation
        total = None if claimed is None else int(claimed[1:].sum(dtype=np.int64))
        if total is not None and total != final["bytes"]:
            return failed(
                self, "The score counts other bytes than its sidecar.",
                scored_bytes=final["bytes"], sidecar_bytes=total,
            )  # fmt: skip
        if official and abs(final["bytes"] - OFFICIAL_BYTES) > LOSSY_TOLERANCE * OFFICIAL_BYTES:
            return failed(
                self, "The bytes are not those of the 50,000 FineWeb validation documents.",
                scored_bytes=final["bytes"], known_bytes=OFFICIAL_BYTES,
                ratio=final["bytes"] / OFFICIAL_BYTES,
            )  # fmt: skip
        return None

    def _documents(self, data: DataFolder, claimed: np.ndarray, pieces: Pieces) -> Finding:
        total = {"claimed": 0, "own": 0, "raw": 0, "documents": 0}
        have_raw = data.documents is not None
        worst: Count | None = None
        if (wrong := self._all_raw(data, claimed, pieces)) is not None:
            return wrong
        for count in self._counts(data, claimed, pieces):
            own, given = int(count.own.sum()), int(count.claimed.sum())
            total["documents"] += 1
            total["claimed"] += given
            total["own"] += own
            total["raw"] += 0 if count.raw is None else len(count.raw.encode("utf-8"))
            if count.raw is not None and not _agrees(given, count.raw, pieces):
                return self._refuse(count, pieces, "raw_bytes", len(count.raw.encode("utf-8")))
            if count.raw is None and pieces.identity and given != own:
                return self._refuse(count, pieces, "own_bytes", own)
            if worst is None or abs(given - own) > abs(worst.claimed.sum() - worst.own.sum()):
                worst = count
        off = abs(total["claimed"] - total["own"])
        if worst is not None and not have_raw and off > LOSSY_TOLERANCE * total["own"]:
            return self._refuse(worst, pieces, "own_bytes", int(worst.own.sum()), **total)
        spaces = sum(map(pieces.has_space, range(len(pieces.text))))
        if pieces.kind != "bytes" and not spaces:
            return failed(self, "The tokenizer has no piece that begins with a space.", pieces=0)
        most = self.max_documents
        left = [] if most is None else [f"single tokens of documents beyond {most:,}"]
        if not have_raw:
            left.append("the raw documents, which are not there")
        about = "the raw documents" if have_raw else "their pieces"
        return passed(
            self, f"The bytes of {total['documents']:,} documents are those of {about}.", left,
            sidecar_bytes=total["claimed"], own_bytes=total["own"],
            raw_bytes=total["raw"] if have_raw else None,
        )  # fmt: skip

    def _all_raw(self, data: DataFolder, claimed: np.ndarray, pieces: Pieces) -> Finding | None:
        """The bytes of every document, where its text is there: cheap, as nothing is decoded."""
        texts, ids = data.texts("validation"), data.tokens("validation")
        if texts is None:
            return None
        starts = starts_of(ids, data.bos_id)
        sums = np.add.reduceat(claimed.astype(np.int64), starts)  # the first token begins one
        for number, (given, raw) in enumerate(zip(sums, texts, strict=False)):
            if not _agrees(int(given), raw, pieces) and number not in self._chosen(len(starts)):
                return failed(
                    self,
                    f"Document {number} is counted as {given:,} bytes and has "
                    f"{len(raw.encode('utf-8')):,}.",
                    document=number, position=int(starts[number]), sidecar_bytes=int(given),
                    raw_bytes=len(raw.encode("utf-8")),
                )  # fmt: skip
        return None

    def _chosen(self, count: int) -> set[int]:
        return set(chosen(count, self.max_documents).tolist())

    def _counts(self, data: DataFolder, claimed: np.ndarray, pieces: Pieces) -> Iterator[Count]:
        ids, texts = data.tokens("validation"), data.texts("validation")
        starts = starts_of(ids, data.bos_id)
        wanted = self._chosen(len(starts))
        for number, (start, end) in enumerate(spans(starts, len(ids))):
            raw = next(texts, None) if texts is not None else None
            if number not in wanted:
                continue
            decoded, own = pieces.decode(ids[start + 1 : end])
            # BOS itself has to count nothing.
            own = np.concatenate([[0], own])
            yield Count(number, start, ids[start:end], claimed[start:end], own, decoded, raw)

    def _refuse(
        self, count: Count, pieces: Pieces, name: str, expected: int, **more: Any
    ) -> Finding:
        given = int(count.claimed.sum())
        witness: dict[str, Any] = {name: expected, **more}
        return failed(
            self,
            f"Document {count.number} is counted as {given:,} bytes and has {expected:,}: "
            f"{suspect(count, pieces)}.",
            document=count.number, position=count.start, sidecar_bytes=given,
            ratio=given / max(1, expected), **witness,
        )  # fmt: skip


def _scores(result: dict[str, Any] | None) -> Iterator[tuple[str, dict[str, float]]]:
    for name, score in (result or {}).get("bpb", {}).items():
        if score is not None:
            yield name, score


def _agrees(counted: int, raw: str, pieces: Pieces) -> bool:
    """All bytes of a document; or all but white space at its ends, which some tokenizers drop."""
    size = len(raw.encode("utf-8"))
    if pieces.kind in LOSSLESS:
        return counted == size
    core = raw
    while core and _blank(core[0]):
        core = core[1:]
    while core and _blank(core[-1]):
        core = core[:-1]
    return len(core.encode("utf-8")) <= counted <= size


def _blank(character: str) -> bool:
    return character.isspace() or not character.isprintable() or character in BLANKS


def suspect(count: Count, pieces: Pieces) -> str:
    """The known mistake that makes a sidecar differ like this, in words."""
    ids, claimed, own = count.ids, count.claimed.astype(np.int64), count.own
    whole = claimed[1:]
    if len(whole) > 1 and whole[0] > 0 and (whole == whole[0]).all():
        return f"constant bytes per token, {whole[0]} for each"
    byte = np.array([token < len(pieces.byte) and pieces.byte[token] >= 0 for token in ids])
    space = np.array([pieces.has_space(token) for token in ids])
    control = np.array([pieces.has_control(token) for token in ids])
    excess = claimed - own
    total = int(excess.sum())
    # Bytes of one character may be booked with the last of its pieces, so only their sum says.
    if total and byte.any() and excess[byte].sum() == total:
        each = claimed[byte].sum() / byte.sum()
        return f"byte-fallback pieces are counted as {each:.1f} bytes each, not 1"
    different = (excess != 0) & ~byte
    if different.any() and not (different & ~control).any() and total > 0:
        return "case controls are counted as bytes"
    if different.any() and not (different & ~space).any():
        way = "counted twice" if total > 0 else "not counted"
        return f"leading spaces are {way}"
    if not total:
        return "the tokens stand for other bytes than the document has: text is lost or was added"
    return "the sidecar is not that of these tokens"
