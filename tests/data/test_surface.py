"""Bytes by the surface of pieces: against decoded text, and against real FineWeb tokens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.data import surface
from pgolf.data.published import PublishedShards
from pgolf.data.shards import read_shard
from pgolf.data.stream import TokenStream
from pgolf.data.surface import Surfaces, write_sidecars
from pgolf.tokenizer.sp import SentencePieceTokenizer
from tests.data.samples import TEXTS, write_shard
from tests.data.test_published import no_hub, source_of
from tests.reference import require_reference

__all__ = ["no_hub"]  # a fixture that holds for every test here
BOS = 1


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small plain SentencePiece model, as the published ones are made."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = SentencePieceTokenizer(vocab_size=320)
    tokenizer.fit(TEXTS)
    tokenizer.save(folder)
    return str(folder / "tokenizer.model")


def opened(model: str, vocab_size: int = 320) -> SentencePieceTokenizer:
    tokenizer = SentencePieceTokenizer(vocab_size=vocab_size, path=model)
    tokenizer.fit([])
    return tokenizer


def ids_of(tokenizer: SentencePieceTokenizer, texts: list[str]) -> np.ndarray:
    """Documents as they are published: BOS, then ids."""
    parts = [np.array([BOS, *tokenizer.encode(text)[0]], np.uint16) for text in texts]
    return np.concatenate(parts)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=4))
def test_counts_are_the_bytes_of_the_decoded_text(model: str, texts: list[str]) -> None:
    tokenizer = opened(model)
    counts = Surfaces(model).count(ids_of(tokenizer, texts), None)
    decoded = [tokenizer.decode(tokenizer.encode(text)[0]) for text in texts]
    assert counts.sum() == sum(len(text.encode()) for text in decoded)


def test_a_space_counts_once_and_not_after_bos(model: str) -> None:
    tokenizer, surfaces = opened(model), Surfaces(model)
    spaced = next(i for i, piece in enumerate(tokenizer.model.pieces) if piece == "\u2581a")
    ids = np.array([BOS, spaced, spaced, BOS, spaced], np.uint16)
    assert surfaces.count(ids, None).tolist() == [0, 1, 2, 0, 1]
    # The same stream cut anywhere.
    for cut in range(1, len(ids)):
        parts = surfaces.count(ids[:cut], None), surfaces.count(ids[cut:], int(ids[cut - 1]))
        assert np.concatenate(parts).tolist() == [0, 1, 2, 0, 1]
    assert surfaces.count(ids[1:2], None).tolist() == [1]
    byte_pieces = ids_of(tokenizer, ["\u4e16"])  # in no piece of the model
    assert surfaces.count(byte_pieces, None).tolist() == [0, 1, 1, 1]


def test_sidecars_go_on_over_shards_and_chunks(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surface, "CHUNK_TOKENS", 7)
    ids = ids_of(opened(model), TEXTS)
    paths = [write_shard(tmp_path / f"{i}", part) for i, part in enumerate(np.array_split(ids, 3))]
    written = write_sidecars(paths, model, tmp_path)
    counts = np.concatenate([read_shard(tmp_path / file.path) for file, _ in written])
    assert np.array_equal(counts, Surfaces(model).count(ids, None))
    assert sum(total for _, total in written) == counts.sum()


def published(root: Path, model: str, texts: list[str]) -> PublishedShards:
    folder, tokenizer = root / "published", opened(model)
    folder.mkdir()
    half = len(texts) // 2
    for number, part in enumerate((texts[:half], texts[half:])):
        write_shard(folder / f"fineweb_val_{number:06d}.bin", ids_of(tokenizer, part))
    write_shard(folder / "fineweb_train_000000.bin", ids_of(tokenizer, texts[:1]))
    return source_of(folder, byte_counts="surfaces")


def test_a_set_without_sidecars_gets_them(model: str, tmp_path: Path) -> None:
    source, documents, shards = published(tmp_path, model, TEXTS), tmp_path / "d", tmp_path / "s"
    documents.mkdir()
    shards.mkdir()
    source.check()
    source.documents(documents, False)
    manifest = source.tokenize(documents, opened(model), shards, False)
    manifest.verify(shards, hashes=True)
    stream = TokenStream.open_validation(shards)
    tokenizer = opened(model)
    decoded = sum(len(tokenizer.decode(tokenizer.encode(text)[0]).encode()) for text in TEXTS)
    assert manifest.validation.raw_bytes == stream.raw_bytes.sum() == decoded
    assert manifest.validation.num_documents == len(TEXTS)


def test_real_validation_tokens_count_the_bytes_of_their_text() -> None:
    """The first 1,040,297 target tokens of the published sp1024 validation shard."""
    shared = require_reference()
    with open(shared / "data" / "fineweb_val_prefix.jsonl", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    model = str(shared / "tokenizers" / "fineweb_1024_bpe.model")
    ids = ids_of(opened(model, 1024), texts)
    assert len(ids) - 1 == 1_040_297
    counts = Surfaces(model).count(ids, None)
    assert counts.sum() == 2_504_867
    starts = np.flatnonzero(ids == BOS)
    by_document = np.add.reduceat(counts, starts, dtype=np.int64)
    assert by_document.tolist() == [len(text.encode()) for text in texts]


@pytest.mark.parametrize("name", ["fineweb_1024_bpe", "fineweb_8192_bpe"])
def test_published_models_have_a_space_only_where_the_rule_looks(name: str) -> None:
    model = str(require_reference() / "tokenizers" / f"{name}.model")
    pieces = opened(model, 1024 if "1024" in name else 8192).model.pieces
    assert not [piece for piece in pieces if "\u2581" in piece[1:]]
    assert "\u2581" in pieces
