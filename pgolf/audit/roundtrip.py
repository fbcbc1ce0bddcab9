"""ROUNDTRIP: whether the tokens that are scored still hold the documents."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Literal

import numpy as np

from pgolf.audit.documents import chosen, spans, starts_of
from pgolf.audit.finding import Finding
from pgolf.audit.pieces import read_pieces
from pgolf.audit.probe import failed, passed, undecided
from pgolf.audit.subject import Subject
from pgolf.tokenizer.store import open_tokenizer

SHOWN_CHARS = 24


class RoundTrip:
    """Decodes stored tokens, by code of its own and by the tokenizer, and encodes the documents.

    Args:
        max_documents: looked at, evenly spread; null: all.
        lossy: what a document that does not come back is: "fail", as its score is one of another
            text, or "note", for a comparison with published scores of such tokenizers.
    """

    name = "ROUNDTRIP"

    def __init__(self, *, max_documents: int | None, lossy: Literal["fail", "note"]) -> None:
        self.max_documents, self.lossy = max_documents, lossy

    def check(self, subject: Subject) -> Finding:
        """Compare each document with what its tokens say."""
        data = subject.data
        texts = None if data is None else data.texts("validation")
        if data is None or texts is None:
            what = "The raw validation documents are not there."
            return undecided(self, what, "whether the tokens hold the text")
        tokenizer, pieces = open_tokenizer(data.tokenizer), read_pieces(data.tokenizer)
        ids = data.tokens("validation")
        starts = starts_of(ids, data.bos_id)
        wanted = set(chosen(len(starts), self.max_documents).tolist())
        changed: list[tuple[int, int, str, str]] = []
        number = -1
        for number, ((start, end), text) in enumerate(
            zip(spans(starts, len(ids)), texts, strict=False)
        ):
            if number not in wanted:
                continue
            stored = ids[start + 1 : end]
            again, _ = tokenizer.encode(text)
            decoded = tokenizer.decode(stored) if pieces is None else pieces.decode(stored)[0]
            if not np.array_equal(stored, again) and tokenizer.decode(again) == text:
                return failed(
                    self, f"Document {number} has other tokens than its tokenizer gives.",
                    document=number, position=start, stored_tokens=len(stored),
                    tokens=len(again),
                )  # fmt: skip
            if decoded != text or tokenizer.decode(again) != text:
                changed.append((number, start, text, decoded))
        left = [] if self.max_documents is None else [f"documents beyond {self.max_documents:,}"]
        if not changed:
            what = f"All {len(wanted):,} documents come back exactly."
            return passed(self, what, left, documents=len(wanted), changed=0)
        number, start, text, decoded = changed[0]
        before, after = first_difference(text, decoded)
        witness = {
            "documents": len(wanted), "changed": len(changed), "first_document": number,
            "position": start, "was": before, "came_back": after,
        }  # fmt: skip
        what = (
            f"{len(changed):,} of {len(wanted):,} documents do not come back from their tokens: "
            "the score is one of another text."
        )
        answer = failed if self.lossy == "fail" else passed
        return answer(self, what, left, **witness)


def first_difference(text: str, decoded: str) -> tuple[str, str]:
    """A few characters of both where they first differ."""
    matcher = SequenceMatcher(None, text[:2000], decoded[:2000], autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind != "equal":
            return text[max(0, a - 4) : b + SHOWN_CHARS], decoded[max(0, c - 4) : d + SHOWN_CHARS]
    return text[-SHOWN_CHARS:], decoded[-SHOWN_CHARS:]
