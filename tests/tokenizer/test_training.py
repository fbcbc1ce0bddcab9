"""The choice of training text."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from pgolf.tokenizer.training import CHUNK_CHARS, spread


def test_all_text_is_kept_where_it_fits() -> None:
    texts = ["a" * 10, "", "b" * (CHUNK_CHARS + 1)]
    assert "".join(spread(texts, 10**6)) == "".join(texts)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=200), st.integers(30, 400))
def test_bytes_are_bounded(sizes: list[int], max_bytes: int) -> None:
    kept = spread(("\u00e9" * (size // 2) + "x" * (size % 2) for size in sizes), max_bytes)
    total = sum(len(text.encode()) for text in kept)
    assert total <= max_bytes
    assert kept


def test_kept_text_is_evenly_spread_and_at_least_half() -> None:
    kept = [int(text) for text in spread((f"{i:06d}" for i in range(1000)), 1000)]
    gaps = {b - a for a, b in itertools.pairwise(kept)}
    assert kept[0] == 0 and kept[-1] >= 1000 - max(gaps)
    assert len(gaps) == 1
    assert 500 <= 6 * len(kept) <= 1000
