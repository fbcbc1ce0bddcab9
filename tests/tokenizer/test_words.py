"""Encoding word by word gives what encoding the whole text gives."""

from __future__ import annotations

import io
import tracemalloc
from typing import Any

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.tokenizer.base import PieceTokenizer
from pgolf.tokenizer.model_spec import read_spec
from pgolf.tokenizer.pieces import EDGES, PieceModel
from pgolf.tokenizer.sp import SentencePieceTokenizer
from pgolf.tokenizer.words import BYTES_PER_WORD, WordEncoder
from tests.tokenizer.corpus import NASTY, TRICKY, documents, texts

# Much white space and many words that occur again.
wordy = st.lists(
    st.one_of(
        st.sampled_from([" ", " ", " ", "  ", "\n", "\u3000", "kalo", "Mi", "REN", "o.", "1984"]),
        st.sampled_from(NASTY),
        st.sampled_from(EDGES),
    ),
    max_size=40,
).map("".join)
kinds = pytest.mark.parametrize("kind", ["caseops", "lossless", "sp"])


def ids_and_bytes(tokenizer: PieceTokenizer, text: str) -> list[list[int]]:
    """From the whole text at once, ids by SentencePiece itself."""
    clean = tokenizer.clean(text)
    pairs = np.frombuffer(tokenizer.encode_parts([clean])[0], np.uint16).reshape(-1, 2)
    processor: Any = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model.serialized)
    return [processor.encode(tokenizer.to_model(clean)), pairs[:, 1].tolist()]


@kinds
@given(st.one_of(wordy, texts))
@settings(max_examples=300, deadline=None)
def test_equals_the_whole_text_at_once(
    request: pytest.FixtureRequest, kind: str, text: str
) -> None:
    tokenizer = request.getfixturevalue(kind)
    assert tokenizer.model.word_border is not None
    expected = ids_and_bytes(tokenizer, text)
    for _ in range(2):  # the second time its words are known
        assert [values.tolist() for values in tokenizer.encode(text)] == expected


@kinds
def test_real_sentences_equal_the_whole_text_at_once(
    request: pytest.FixtureRequest, kind: str
) -> None:
    tokenizer = request.getfixturevalue(kind)
    for text in [*documents(20), *TRICKY, " ".join(TRICKY)]:
        found = [values.tolist() for values in tokenizer.encode(text)]
        assert found == ids_and_bytes(tokenizer, text)


@kinds
@given(st.one_of(wordy, texts), st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_parts_of_a_text_equal_the_whole(
    request: pytest.FixtureRequest, kind: str, text: str, part_chars: int
) -> None:
    tokenizer = request.getfixturevalue(kind)
    border, clean = tokenizer.model.word_border, tokenizer.clean(text)
    words = WordEncoder(border, tokenizer.encode_parts, 3000, part_chars)
    for _ in range(2):
        assert words.encode(clean) == tokenizer.encode_parts([clean])[0]


@pytest.mark.parametrize("kind", ["caseops", "sp"])
def test_memory_for_a_long_text_is_a_few_times_the_text(
    request: pytest.FixtureRequest, kind: str
) -> None:
    tokenizer, text = request.getfixturevalue(kind), "kalo Mi ren o. " * 200_000  # 3 MB
    tokenizer.encode(text[:1000])
    tracemalloc.start()
    _, raw_bytes = tokenizer.encode(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert int(raw_bytes.sum()) == len(tokenizer.clean(text).encode())
    assert peak < 10 * len(text)  # 40 times, with the words of all of it in one list


class Counting:
    """Stands in for a tokenizer; one id a character, and remembers what it was given."""

    def __init__(self, border: Any, max_bytes: int) -> None:
        self.given: list[list[str]] = []
        self.words = WordEncoder(border, self.encode_parts, max_bytes)

    def encode_parts(self, parts: list[str]) -> list[bytes]:
        self.given.append(parts)
        return [part.encode("utf-16-le") for part in parts]


def test_each_word_is_encoded_once(sp: SentencePieceTokenizer) -> None:
    counting = Counting(sp.model.word_border, 10**6)
    for text in ("a b a b c", "a c b c", "b"):
        assert counting.words.encode(text) == text.encode("utf-16-le")
    assert sorted(counting.given[0]) == [" a", " b", " c", "a"]
    assert counting.given[1:] == [["b"]]


def test_words_are_forgotten_where_there_are_too_many(sp: SentencePieceTokenizer) -> None:
    counting = Counting(sp.model.word_border, 4 * BYTES_PER_WORD)
    text = " ".join("abcdefgh")
    for _ in range(3):
        assert counting.words.encode(text) == text.encode("utf-16-le")
    assert len(counting.given) == 3


def trained(corpus: list[str] | None = None, **settings: Any) -> PieceModel:
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus or documents()), model_writer=file, vocab_size=400,
        hard_vocab_limit=False, byte_fallback=True, minloglevel=2,
        **{"model_type": "bpe", "add_dummy_prefix": False, **settings},
    )  # fmt: skip
    return PieceModel(file.getvalue(), "a model")


@pytest.mark.parametrize(
    ("settings", "cuts"),
    [
        ({}, True),
        ({"normalization_rule_name": "nfkc"}, True),
        ({"model_type": "unigram"}, False),
        ({"add_dummy_prefix": True}, False),
        ({"treat_whitespace_as_suffix": True}, False),
    ],
)
def test_only_models_that_are_known_to_fall_into_words_are_cut(
    settings: dict[str, Any], cuts: bool
) -> None:
    assert (trained(**settings).word_border is not None) == cuts


def test_a_model_with_pieces_of_several_words_is_not_cut() -> None:
    model = trained(["in the house in the"] * 50, split_by_whitespace=False)
    assert "\u2581in\u2581the" in model.pieces
    assert model.word_border is None


def test_rules_of_ones_own_are_not_trusted(tmp_path: Any) -> None:
    rules = tmp_path / "rules.tsv"
    rules.write_text("61 20 62\t63\n")  # "a b" becomes "c"
    model = trained(normalization_rule_tsv=str(rules))
    assert read_spec(model.serialized).rules == "user_defined"
    assert model.word_border is None


def test_spec_of_a_model() -> None:
    spec = read_spec(trained(normalization_rule_name="nfkc").serialized)
    assert (spec.is_bpe, spec.rules) == (True, "nfkc")
    assert not read_spec(trained(model_type="unigram").serialized).is_bpe
