"""Surfaces against SentencePiece's own, and published tokens against their text."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings

from pgolf.errors import UserError
from pgolf.tokenizer.sp import SentencePieceTokenizer
from tests.reference import require_reference
from tests.tokenizer.corpus import TRICKY, texts


def surfaces(serialized: bytes, text: str) -> list[str]:
    """Each token's part of the text as SentencePiece itself tells it, old and new releases."""
    processor: Any = sentencepiece.SentencePieceProcessor(model_proto=serialized)
    if hasattr(processor, "encode_as_immutable_proto"):
        return [
            piece.surface for piece in processor.encode(text, out_type="immutable_proto").pieces
        ]
    offsets = processor.encode(text, out_type="offset_mapping")["offsets"]
    return [text[begin:end] for begin, end in offsets]


@given(texts)
@settings(max_examples=200, deadline=None)
def test_bytes_are_those_of_the_surfaces(sp: SentencePieceTokenizer, text: str) -> None:
    _, raw_bytes = sp.encode(text)
    expected = [len(part.encode()) for part in surfaces(sp.model.serialized, text)]
    assert raw_bytes.tolist() == expected


@pytest.mark.parametrize("text", TRICKY)
def test_bytes_of_tricky_text(sp: SentencePieceTokenizer, text: str) -> None:
    _, raw_bytes = sp.encode(text)
    expected = [len(part.encode()) for part in surfaces(sp.model.serialized, text)]
    assert raw_bytes.tolist() == expected


def test_folded_white_space_belongs_to_the_word_after_it(sp: SentencePieceTokenizer) -> None:
    ids, raw_bytes = sp.encode("kalo \n\t kalo")
    assert int(raw_bytes.sum()) == 12
    assert sp.decode(ids) == "kalo kalo"


def test_white_space_beyond_a_shards_range_is_refused(sp: SentencePieceTokenizer) -> None:
    assert int(sp.encode("a" + " " * 65534 + "b")[1].sum()) == 65536
    with pytest.raises(UserError, match="65,535"):
        sp.encode("a" + " " * 65536 + "b")


def published(count: int | None) -> tuple[SentencePieceTokenizer, list[str]]:
    folder = require_reference()
    model = folder / "tokenizers" / "fineweb_1024_bpe.model"
    prefix = folder / "data" / "fineweb_val_prefix.jsonl"
    if not (model.is_file() and prefix.is_file()):
        pytest.skip(f"needs {model} and {prefix}")
    tokenizer = SentencePieceTokenizer(vocab_size=1024, path=str(model))
    tokenizer.check()
    tokenizer.fit(iter(()))
    with open(prefix, encoding="utf-8") as file:
        return tokenizer, [json.loads(line)["text"] for line in itertools.islice(file, count)]


def test_published_text_is_folded_already() -> None:
    tokenizer, documents = published(40)
    for text in documents:
        ids, raw_bytes = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert int(raw_bytes.sum()) == len(text.encode())


@pytest.mark.slow
def test_published_validation_prefix_has_its_tokens() -> None:
    tokenizer, documents = published(None)
    tokens = sum(len(tokenizer.encode(text)[0]) for text in documents)
    assert tokens + len(documents) - 1 == 1_040_297


def test_model_without_byte_fallback_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plain.model"
    with open(path, "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["some words here"]), model_writer=file, model_type="bpe",
            vocab_size=40, hard_vocab_limit=False, minloglevel=2,
        )  # fmt: skip
    with pytest.raises(UserError, match="byte fallback"):
        SentencePieceTokenizer(vocab_size=40, path=str(path)).check()
