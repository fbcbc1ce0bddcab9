"""One id a byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf.errors import UserError
from pgolf.tokenizer.bytes import BytesTokenizer
from tests.tokenizer.corpus import texts


@given(texts)
def test_ids_are_the_bytes(text: str) -> None:
    tokenizer = BytesTokenizer(vocab_size=264)
    ids, raw_bytes = tokenizer.encode(text)
    assert ids.tolist() == list(text.encode())
    assert raw_bytes.tolist() == [1] * len(ids)
    assert (ids.dtype, raw_bytes.dtype) == ("uint16", "uint16")
    assert tokenizer.decode(ids) == text


@given(st.text(st.characters(), max_size=20))
def test_lone_surrogates_are_exact_too(text: str) -> None:
    tokenizer = BytesTokenizer(vocab_size=264)
    assert tokenizer.decode(tokenizer.encode(text)[0]) == text


@given(st.lists(st.integers(0, 263)))
def test_any_ids_decode(ids: list[int]) -> None:
    assert isinstance(BytesTokenizer(vocab_size=264).decode(ids), str)


def test_bos_stands_for_nothing() -> None:
    tokenizer = BytesTokenizer(vocab_size=257)
    tokenizer.check()
    assert tokenizer.decode([tokenizer.bos_id, 72, 105]) == "Hi"


def test_vocabulary_below_257_is_refused() -> None:
    with pytest.raises(UserError, match=r"vocab_size=256.*scale\.vocab_size=264"):
        BytesTokenizer(vocab_size=256).check()
