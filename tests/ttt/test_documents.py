"""Documents of a stream: all positions once, longest first, in windows as a loop would cut them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf.data.stream import TokenStream
from pgolf.ttt.documents import DocumentOrder, Queue, chunks_of, gather

BOS = 0
# Streams with any number of documents, perhaps none that begins with BOS, or BOS at either end.
texts = st.lists(st.integers(0, 4), min_size=2, max_size=60)


def split(ids: list[int]) -> list[tuple[int, list[int]]]:
    """(first token, own tokens) of each document that has something to score, by a plain loop."""
    found: list[tuple[int, list[int]]] = []
    for at, token in enumerate(ids):
        if token == BOS or at == 0:
            found.append((at, []))
        found[-1][1].append(token)
    if found[-1][0] == len(ids) - 1:  # a last token without another after it
        found.pop()
    return found


@given(texts)
def test_every_position_is_in_one_document_and_they_come_longest_first(ids: list[int]) -> None:
    queue = Queue.of(np.array(ids, np.uint16), BOS)
    spans = zip(queue.starts, queue.starts + queue.lengths, strict=True)
    positions = [p for start, end in spans for p in range(start, end)]
    assert sorted(positions) == list(range(len(ids) - 1))
    assert sorted(queue.starts) == [at for at, _ in split(ids)]
    keys = list(zip(-queue.lengths, queue.starts, strict=True))
    assert keys == sorted(keys)


@given(texts, st.integers(0, 60))
def test_the_text_is_that_of_the_first_documents_without_what_follows_them(
    ids: list[int], count: int
) -> None:
    queue, own = Queue.of(np.array(ids, np.uint16), BOS), dict(split(ids))
    expected = [token for start in queue.starts[:count] for token in own[start]]
    text = queue.text(np.array(ids, np.uint16), count)
    assert text.dtype == np.int64 and text.tolist() == expected


@pytest.mark.parametrize(
    ("prefix_docs", "phases", "num_docs", "ends"),
    [
        (2500, 3, 50000, [833, 1666, 2500, 50000]),
        (9, 3, 9, [3, 6, 9]),
        (100, 4, 9, [2, 4, 6, 9]),
        (100, 4, 2, [1, 2]),
        (1, 3, 7, [1, 7]),
        (0, 3, 7, [7]),
    ],
)
def test_phases_end_after_equal_parts_of_the_prefix(
    prefix_docs: int, phases: int, num_docs: int, ends: list[int]
) -> None:
    assert DocumentOrder(48, 64, prefix_docs, phases).phase_ends(num_docs) == ends


@given(st.lists(st.integers(1, 70), max_size=12), st.integers(1, 9), st.integers(0, 20))
def test_chunks_score_every_position_once_in_the_longest_window_that_fits(
    lengths: list[int], chunk_tokens: int, more: int
) -> None:
    lengths, seq_len = sorted(lengths, reverse=True), chunk_tokens + more
    scored = [[] for _ in lengths]
    shapes = set()
    for index, chunk in enumerate(chunks_of(np.array(lengths), chunk_tokens, seq_len)):
        end = (index + 1) * chunk_tokens
        assert chunk.begin + chunk.size == end and chunk.size == min(seq_len, end)
        assert chunk.num_scored == chunk_tokens
        assert chunk.num_going_on == sum(length > end for length in lengths)
        shapes.add(chunk.rows)
        for row in range(len(lengths)):
            inside = range(end - chunk_tokens, min(end, lengths[row]))
            assert row < chunk.rows or not inside
            scored[row] += inside
    assert scored == [list(range(length)) for length in lengths]
    assert len(shapes) <= len(lengths).bit_length() + 1


def test_a_window_is_that_of_a_loop_and_padded_after_its_document() -> None:
    ids = np.arange(1, 21).astype(np.uint16)
    stream = TokenStream(ids, (ids * 100).astype(np.uint16))
    found = gather(stream, np.array([2, 9, 16]), np.array([12, 12, 19]), 8, 5)
    rows, targets, scored, raw_bytes = found
    total = 0
    for row, (begin, end) in enumerate([(2, 12), (9, 12), (16, 19)]):
        for place, position in enumerate(range(begin, begin + 8)):
            inside, target = position < end, place - 3
            assert rows[row, place] == (ids[position] if inside else 0)
            if target >= 0:
                assert scored[row, target] == inside
                assert targets[row, target] == (ids[position + 1] if inside else 0)
                total += int(stream.raw_bytes[position + 1]) if inside else 0
    assert raw_bytes == total and rows.dtype == targets.dtype == np.int64
