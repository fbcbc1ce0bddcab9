"""How much of a text survives a tokenizer, and whether its byte sidecar adds up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pgolf.protocols import Tokenizer


@dataclass(frozen=True)
class Trip:
    """A document, its ids uint16[n] with the raw bytes of each, and what the ids decode to."""

    text: str
    ids: np.ndarray
    raw_bytes: np.ndarray
    decoded: str


def _ignore(trip: Trip) -> None:
    """Nobody wants to see the documents."""


def roundtrip(
    tokenizer: Tokenizer, texts: Iterable[str], watch: Callable[[Trip], object] = _ignore
) -> dict[str, Any]:
    """Encode and decode every document.

    Args:
        watch: shown each document on its way.

    Returns:
        documents: how many; exact: those with decode(encode(text)) == text; bytes: raw UTF-8 bytes
        of all; counted_bytes: sum of the byte sidecar; tokens: without BOS; first_inexact: number
        (from 0) of the first document that came back changed, or None.
    """
    documents = exact = raw_bytes = counted = tokens = 0
    first_inexact: int | None = None
    for number, text in enumerate(texts):
        ids, bytes_of_ids = tokenizer.encode(text)
        trip = Trip(text, ids, bytes_of_ids, tokenizer.decode(ids))
        documents += 1
        raw_bytes += len(text.encode("utf-8", "surrogatepass"))
        counted += int(bytes_of_ids.sum(dtype="int64"))
        tokens += len(ids)
        if trip.decoded == text:
            exact += 1
        elif first_inexact is None:
            first_inexact = number
        watch(trip)
    return {
        "documents": documents,
        "exact": exact,
        "bytes": raw_bytes,
        "counted_bytes": counted,
        "tokens": tokens,
        "first_inexact": first_inexact,
    }
