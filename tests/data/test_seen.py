"""The set of document keys: the same answers as Python's own, in little memory."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from pgolf.data.corpus import document_key
from pgolf.data.seen import Seen

# Few byte values, so that keys share buckets and run into each other.
KEYS = st.lists(st.lists(st.sampled_from([0, 1]), min_size=6, max_size=6).map(bytes), max_size=60)


@given(KEYS)
def test_answers_are_those_of_a_set(keys: list[bytes]) -> None:
    seen, expected = Seen(), set()
    for key in keys:
        assert (key in seen) == (key in expected)
        assert seen.add(key) == (key not in expected)
        expected.add(key)
        assert len(seen) == len(expected) and key in seen


def test_a_key_found_across_two_others_is_not_in() -> None:
    seen = Seen()
    seen.add(b"..abcd")
    seen.add(b"..efgh")
    assert b"..cdef" not in seen and b"..bcde" not in seen
    seen.add(b"..cdef")
    assert b"..cdef" in seen


def test_a_document_takes_about_sixteen_bytes() -> None:
    seen, count = Seen(), 300_000
    for number in range(count):
        assert seen.add(document_key(str(number)))
    buckets = seen._buckets
    size = (
        sys.getsizeof(buckets)
        + sum(map(sys.getsizeof, buckets))
        + sum(len(bucket) for bucket in buckets.values())
    )
    fixed = 2**16 * 250  # the buckets themselves, however many keys they hold
    assert size < fixed + 16 * count
