"""Documents to shards: BOS, bytes, splits over shards, processes, and tokenizers with faults."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.data.corpus import documents_of
from pgolf.data.local import LocalText
from pgolf.data.stream import TokenStream
from pgolf.data.tokenize import encode_chunk, tokenize_documents
from pgolf.errors import RunFailed
from pgolf.tokenizer.bytes import BytesTokenizer
from pgolf.tokenizer.caseops import CaseOpsTokenizer
from pgolf.tokenizer.store import open_tokenizer
from tests.data.samples import TEXTS, bytes_tokenizer, collect, prepare, write_jsonl
from tests.reference import require_reference


def documents_in(ids: np.ndarray, bos_id: int) -> list[str]:
    """Texts of a stream of the byte tokenizer, cut at BOS."""
    assert ids[0] == bos_id
    parts = np.split(ids, np.flatnonzero(ids == bos_id))[1:]
    return [bytes(part[1:].astype(np.uint8)).decode() for part in parts]


def test_shards_hold_the_documents_and_their_bytes(tmp_path: Path) -> None:
    folder, manifest = prepare(tmp_path)
    tokenizer, stream = bytes_tokenizer(), TokenStream.open_validation(folder)
    validation = documents_in(stream.ids, tokenizer.bos_id)
    training = documents_in(TokenStream.open_training(folder)[0].ids, tokenizer.bos_id)
    assert validation == list(documents_of(tmp_path / "documents", "validation"))
    assert sorted(validation + training) == sorted(TEXTS)
    assert set(validation).isdisjoint(training)
    sizes = [len(text.encode()) for text in validation]
    ends = np.append(np.flatnonzero(stream.ids == tokenizer.bos_id), stream.num_tokens)
    assert stream.raw_bytes[ends[:-1]].sum() == 0
    per_document = [stream.raw_bytes[a:b].sum() for a, b in itertools.pairwise(ends)]
    assert per_document == sizes
    split = manifest.validation
    assert split.document_bytes == split.raw_bytes == sum(sizes)
    assert split.num_documents == len(validation)
    assert manifest.training.num_documents == len(training)
    assert manifest.training.raw_bytes == sum(len(text.encode()) for text in training)
    assert manifest.roundtrip == {"documents": len(validation), "exact": len(validation)}
    assert manifest.tokenizer_fingerprint == open_tokenizer(folder / "tokenizer").fingerprint


@pytest.mark.parametrize("shard_tokens", [1, 7, 64, 10**6])
def test_shards_are_cut_at_any_length(tmp_path: Path, shard_tokens: int) -> None:
    texts = TEXTS[:4]
    folder, manifest = prepare(tmp_path, texts, shard_tokens=shard_tokens)
    lengths = [shard.num_tokens for shard in manifest.training.shards]
    assert set(lengths[:-1]) <= {shard_tokens} and 0 < lengths[-1] <= shard_tokens
    ids = np.concatenate([part.ids for part in TokenStream.open_training(folder)])
    stream = TokenStream.open_validation(folder)
    found = documents_in(ids, 256) + documents_in(stream.ids, 256)
    assert sorted(found) == sorted(texts)
    assert stream.raw_bytes.sum() == manifest.validation.document_bytes


def test_processes_change_nothing(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    texts = [f"{i} " * 40_000 for i in range(10, 22)]  # several chunks
    for folder, processes in ((one, 1), (two, 2)):
        folder.mkdir()
        prepare(folder, texts, processes=processes)
    for path in sorted((one / "shards").glob("*.*")):
        assert path.read_bytes() == (two / "shards" / path.name).read_bytes(), path.name


class CountingTokenizer(BytesTokenizer):
    """Remembers what it was fitted on."""

    def fit(self, texts: Iterable[str]) -> None:
        self.seen = list(texts)


def test_the_tokenizer_is_fitted_on_training_text_alone(tmp_path: Path) -> None:
    folder, _ = collect(LocalText(path=str(write_jsonl(tmp_path / "a.jsonl", TEXTS))), tmp_path)
    tokenizer = CountingTokenizer(vocab_size=264)
    (tmp_path / "shards").mkdir()
    tokenize_documents(folder, tokenizer, tmp_path / "shards", False)
    assert tokenizer.seen == list(documents_of(folder, "training"))


class FaultyTokenizer(BytesTokenizer):
    """Counts some bytes too many or too few."""

    def __init__(self, extra: int) -> None:
        super().__init__(vocab_size=264)
        self.extra = extra

    def encode(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        ids, counts = super().encode(text)
        counts[0] = int(counts[0]) + self.extra
        return ids, counts


@pytest.mark.parametrize("extra", [1, 2, -1])
def test_wrong_byte_counts_are_refused(extra: int) -> None:
    with pytest.raises(RunFailed, match="byte counts are wrong"):
        encode_chunk(FaultyTokenizer(extra), True, ["a document"])


def test_only_blanks_at_the_ends_may_go_uncounted() -> None:
    class Stripping(BytesTokenizer):
        def encode(self, text: str) -> tuple[np.ndarray, np.ndarray]:
            return super().encode(text.strip(" \n\u200b"))

    tokenizer = Stripping(vocab_size=264)
    encoded = encode_chunk(tokenizer, True, ["\n a b\u200b ", "c"])
    assert encoded.raw_bytes.tolist() == [0, 1, 1, 1, 0, 1]
    assert encoded.num_exact == 1


def test_ids_beyond_the_vocabulary_are_refused() -> None:
    with pytest.raises(RunFailed, match="id 98 of 98"):
        encode_chunk(BytesTokenizer(vocab_size=98), True, ["ab"])


@settings(max_examples=50)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_any_documents_keep_their_bytes(texts: list[str]) -> None:
    encoded = encode_chunk(bytes_tokenizer(), True, texts)
    assert encoded.raw_bytes.sum() == sum(len(text.encode()) for text in texts)
    assert (encoded.ids == 256).sum() == len(texts) == encoded.num_exact
    assert documents_in(encoded.ids, 256) == texts


def test_real_validation_text_has_the_published_counts(tmp_path: Path) -> None:
    """Tokens and bytes that the published tokenizer's own code counted on the same documents."""
    shared = require_reference()
    names = ("fineweb_val_prefix.jsonl", "fineweb_verify_docs.jsonl")
    (tmp_path / "val").mkdir()
    for name in names:
        (tmp_path / "val" / name).symlink_to(shared / "data" / name)
    training = str(write_jsonl(tmp_path / "train.jsonl", TEXTS))
    documents, _ = collect(LocalText(path=training, val_path=str(tmp_path / "val")), tmp_path)
    model = shared / "tokenizers" / "fineweb_8192_bpe_caseops.model"
    tokenizer = CaseOpsTokenizer(vocab_size=8192, path=str(model))
    (tmp_path / "shards").mkdir()
    manifest = tokenize_documents(documents, tokenizer, tmp_path / "shards", False)
    split = manifest.validation
    assert (split.num_documents, split.num_tokens) == (1102, 1_298_990)
    assert split.raw_bytes == split.document_bytes == 3_994_382
