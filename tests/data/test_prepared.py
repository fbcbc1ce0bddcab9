"""Prepared folders as the data of a run: used where they lie, and only with their tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pgolf.clock import Clock
from pgolf.data.corpus import Corpus, documents_of
from pgolf.data.local import LocalText
from pgolf.data.manifest import Manifest
from pgolf.data.prepare_shards import prepare_shards
from pgolf.data.prepared import PreparedShards
from pgolf.data.stream import TokenStream
from pgolf.data.tokenize import Work
from pgolf.data.view import validation_view
from pgolf.errors import UserError
from pgolf.tokenizer.bytes import BytesTokenizer
from pgolf.tokenizer.sp import SentencePieceTokenizer
from tests.data.samples import TEXTS, bytes_tokenizer, write_jsonl
from tests.data.test_prepare_shards import prepare_into


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare_into(write_jsonl(tmp_path / "text.jsonl", TEXTS), tmp_path / "shards", 300)
    return tmp_path / "shards"


def stages(source: PreparedShards, root: Path, tokenizer: BytesTokenizer) -> Manifest:
    for name in ("documents", "tokens"):
        (root / name).mkdir()
    source.documents(root / "documents", show=False)
    return source.tokenize(root / "documents", tokenizer, root / "tokens", show=False)


def test_a_run_sees_the_shards_of_the_folder(folder: Path, tmp_path: Path) -> None:
    source = PreparedShards(path=str(folder))
    source.check()
    manifest = stages(source, tmp_path, bytes_tokenizer())
    tokens = tmp_path / "tokens"
    assert Manifest.load(tokens) == manifest
    assert sorted(path.name for path in tokens.iterdir()) == ["manifest.json", "tokenizer"]
    for shards, expected in (
        (TokenStream.open_training(tokens), TokenStream.open_training(folder)),
        ([TokenStream.open_validation(tokens)], [TokenStream.open_validation(folder)]),
    ):
        assert all(np.array_equal(a.ids, b.ids) for a, b in zip(shards, expected, strict=True))
    view = validation_view(tokens, tmp_path / "view")
    assert view.validation.num_tokens == manifest.validation.num_tokens
    documents = tmp_path / "documents"
    assert list(documents_of(documents, "validation")) == TEXTS[:12]
    assert Corpus.load(documents).num_documents["validation"] == 12


def test_another_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    source = PreparedShards(path=str(folder))
    with pytest.raises(UserError, match=r"use tokenizer=bytes scale\.vocab_size=264"):
        stages(source, tmp_path, BytesTokenizer(vocab_size=272))
    with pytest.raises(UserError, match="use tokenizer=bytes"):
        source.tokenize(tmp_path, SentencePieceTokenizer(vocab_size=512), tmp_path, show=False)


def test_a_named_tokenizer_is_compared_with_that_of_the_shards(tmp_path: Path) -> None:
    paths = []
    for name, texts in (("own", TEXTS), ("other", [*TEXTS[::-1], "quite another text " * 9])):
        made = SentencePieceTokenizer(vocab_size=300)
        made.fit(texts)
        made.save(tmp_path / name)
        paths.append(str(tmp_path / name / "tokenizer.model"))
    own, other = (SentencePieceTokenizer(vocab_size=300, path=path) for path in paths)
    text = write_jsonl(tmp_path / "text.jsonl", TEXTS)
    local = LocalText(path=str(text), val_rule="first:12")
    prepare_shards(local, own, tmp_path / "shards", Clock({}), Work(10**6), show=False)
    source = PreparedShards(path=str(tmp_path / "shards"))
    stages(source, tmp_path, own)
    with pytest.raises(UserError, match=r"tokenizer\.path=.*other.*: not the tokenizer that made"):
        source.tokenize(tmp_path, other, tmp_path / "again", show=False)


def test_faults_are_found_before_a_run_uses_them(folder: Path, tmp_path: Path) -> None:
    source, key = PreparedShards(path=str(folder)), PreparedShards(path=str(folder)).cache_key()
    assert json.loads(json.dumps(key)) == key
    path = folder / "train_000001.bin"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(UserError, match=r"train_000001\.bin: missing, or not as .*same command"):
        source.check()
    with pytest.raises(UserError, match=r"train_000001\.bin: its sha256"):
        source.documents(tmp_path, show=False)
    path.write_bytes(data)
    source.check()  # touched, but as it was
    documents = folder / "documents" / "validation.jsonl.zst"
    text = documents.read_bytes()
    documents.unlink()
    with pytest.raises(UserError, match=r"documents/validation\.jsonl\.zst: missing"):
        source.check()
    documents.write_bytes(text)
    path.write_bytes(data[:-2])
    with pytest.raises(UserError, match=r"train_000001\.bin: \d+ bytes"):
        source.check()
    with pytest.raises(UserError, match=r"manifest\.json: No such file"):
        PreparedShards(path=str(tmp_path)).check()
