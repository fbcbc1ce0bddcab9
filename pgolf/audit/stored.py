"""STORED: whether the artifact holds validation text, as bytes or as token ids."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pgolf.audit.documents import chosen, spans, starts_of
from pgolf.audit.finding import Finding
from pgolf.audit.hidden import contents
from pgolf.audit.pieces import read_pieces
from pgolf.audit.probe import failed, passed, undecided
from pgolf.audit.subject import DataFolder, Subject

TEXT_BYTES, TOKENS = 48, 24


class Stored:
    """Looks for parts of validation documents in the shipped files and in what these unpack to.

    Args:
        max_documents: of which a part is looked for, evenly spread.
    """

    name = "STORED"

    def __init__(self, *, max_documents: int) -> None:
        self.max_documents = max_documents

    def check(self, subject: Subject) -> Finding:
        """A part of a document's middle, as UTF-8 and as ids of two and four bytes."""
        if subject.artifact is None or subject.data is None:
            return undecided(self, "Artifact or text are not there.", "text in the artifact")
        needles = list(self._needles(subject.data))
        for name, content in contents(subject.artifact):
            for number, kind, needle in needles:
                at = content.find(needle)
                if at >= 0:
                    return failed(
                        self, f"{name} holds validation document {number}, as {kind}.",
                        file=name, byte=at, document=number,
                    )  # fmt: skip
        left = ["text that is stored encoded in another way, weights included"]
        looked = len({number for number, _, _ in needles})
        what = f"Parts of {looked:,} validation documents were looked for, none is there."
        return passed(self, what, left, parts=len(needles))

    def _needles(self, data: DataFolder) -> Iterator[tuple[int, str, bytes]]:
        ids, pieces = data.tokens("validation"), read_pieces(data.tokenizer)
        starts = starts_of(ids, data.bos_id)
        wanted = set(chosen(len(starts), self.max_documents).tolist())
        for number, (start, end) in enumerate(spans(starts, len(ids))):
            if number not in wanted or end - start < 2 * TOKENS:
                continue
            middle = (start + end) // 2
            part = ids[middle : middle + TOKENS]
            for dtype in ("<u2", ">u2", "<i4", "<i8"):
                yield number, f"ids of type {dtype}", part.astype(dtype).tobytes()
            if pieces is not None:
                text = pieces.decode(ids[start + 1 : end])[0].encode("utf-8")
                half = len(text) // 2
                # Not what other documents have, too: a run of the same few characters says nothing.
                needle = text[half : half + TEXT_BYTES]
                if len(needle) == TEXT_BYTES and len(np.unique(list(needle))) > 8:
                    yield number, "text", needle
                    yield number, "text backwards", needle[::-1]
