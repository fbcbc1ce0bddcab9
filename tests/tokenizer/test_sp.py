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

# name, text, bytes that the normaliser drops at its beginning and at its end
EDGES = [
    (name, text, first, last)
    for name in ("sp", "caseops")
    for text, first, last in (
        ("Text that ends with a replacement mark \ufffd", 0, 4),
        ("\ufffd Some text", 4, 0),
        ("\u2581 starts", 4, 0),
        ("ends \u2581", 0, 4),
        ("\u2581\u2582\u2583 chart", 3, 0),
        ("\ufeff \u2581kalo\ufffd\ufffd", 7, 6),
        ("one", 0, 0),
    )
] + [("sp", " \nkalo mi\n", 2, 1)]


def surfaces(serialized: bytes, text: str) -> list[str]:
    """Each token's part of the text as SentencePiece itself tells it, old and new releases."""
    processor: Any = sentencepiece.SentencePieceProcessor(model_proto=serialized)
    if hasattr(processor, "encode_as_immutable_proto"):
        return [
            piece.surface for piece in processor.encode(text, out_type="immutable_proto").pieces
        ]
    offsets = processor.encode(text, out_type="offset_mapping")["offsets"]
    return [text[begin:end] for begin, end in offsets]


def surface_bytes(serialized: bytes, text: str) -> list[int]:
    """UTF-8 bytes of each surface; those outside of all go to the first and the last token."""
    parts = surfaces(serialized, text)
    counts = [len(part.encode()) for part in parts]
    if counts:
        begin = text.index("".join(parts))  # what the normaliser drops lies at the ends alone
        counts[0] += len(text[:begin].encode())
        counts[-1] += len(text[begin + len("".join(parts)) :].encode())
    return counts


@given(texts)
@settings(max_examples=200, deadline=None)
def test_bytes_are_those_of_the_surfaces(sp: SentencePieceTokenizer, text: str) -> None:
    _, raw_bytes = sp.encode(text)
    assert raw_bytes.tolist() == surface_bytes(sp.model.serialized, text)


@pytest.mark.parametrize("text", TRICKY)
def test_bytes_of_tricky_text(sp: SentencePieceTokenizer, text: str) -> None:
    _, raw_bytes = sp.encode(text)
    assert raw_bytes.tolist() == surface_bytes(sp.model.serialized, text)


@pytest.mark.parametrize(("name", "text", "first", "last"), EDGES)
def test_what_the_normaliser_drops_at_the_ends_is_counted(
    request: pytest.FixtureRequest, name: str, text: str, first: int, last: int
) -> None:
    """All bytes of the document lie on tokens, those of its ends on the first and the last."""
    tokenizer = request.getfixturevalue(name)
    ids, raw_bytes = tokenizer.encode(text)
    inner_ids, inner_bytes = tokenizer.encode(text.strip(" \n\u2581\ufffd\ufeff"))
    assert ids.tolist() == inner_ids.tolist() and len(ids)
    inner_bytes[0] += first
    inner_bytes[-1] += last
    assert raw_bytes.tolist() == inner_bytes.tolist()
    assert int(raw_bytes.sum()) == len(text.encode())


@pytest.mark.parametrize("text", ["", " ", "\n \n", "\u2581", "\ufffd\u2581 \ufffd", "\ufeff"])
@pytest.mark.parametrize("name", ["sp", "caseops"])
def test_documents_of_blanks_have_no_tokens(
    request: pytest.FixtureRequest, name: str, text: str
) -> None:
    assert [len(values) for values in request.getfixturevalue(name).encode(text)] == [0, 0]


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
