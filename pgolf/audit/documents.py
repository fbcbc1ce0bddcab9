"""The documents of a stream of tokens, and a fair choice among them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def starts_of(ids: np.ndarray, bos_id: int) -> np.ndarray:
    """Where each document begins, int64 [D]; tokens before the first BOS belong to none."""
    return np.flatnonzero(ids == bos_id)


def chosen(count: int, most: int | None) -> np.ndarray:
    """Numbers of at most so many of `count` documents, evenly spread; int64."""
    if most is None or count <= most:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, most).astype(np.int64))


def spans(starts: np.ndarray, num_tokens: int) -> Iterator[tuple[int, int]]:
    """First and last-but-one place of each document's tokens, BOS included."""
    ends = [*starts[1:].tolist(), num_tokens]
    yield from zip(starts.tolist(), ends, strict=True)
