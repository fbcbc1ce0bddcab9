"""Published shards: what is missing is named, ids and tokenizer are compared, nothing is copied."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgolf.data.manifest import Manifest
from pgolf.data.published import PublishedShards
from pgolf.data.stream import TokenStream
from pgolf.data.tokenize import encode_chunk
from pgolf.data.view import validation_view
from pgolf.errors import UserError
from pgolf.tokenizer.bytes import BytesTokenizer
from tests.data.samples import TEXTS, write_shard
from tests.reference import require_reference


class GivenTokenizer(BytesTokenizer):
    """The byte tokenizer as if read from a file."""

    path = "given.model"

    def __init__(self, vocab_size: int = 264, shift: int = 0) -> None:
        super().__init__(vocab_size=vocab_size)
        self.shift = shift

    def encode(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        ids, counts = super().encode(text)
        return ids + np.uint16(self.shift), counts


def write_published(folder: Path, num_val: int = 2) -> Path:
    folder.mkdir()
    tokenizer = BytesTokenizer(vocab_size=264)
    for i in range(num_val):
        encoded = encode_chunk(tokenizer, False, TEXTS[i * 10 : i * 10 + 10])
        write_shard(folder / f"fineweb_val_{i:06d}.bin", encoded.ids)
        write_shard(folder / f"fineweb_val_bytes_{i:06d}.bin", encoded.raw_bytes)
    encoded = encode_chunk(tokenizer, False, TEXTS[30:])
    write_shard(folder / "fineweb_train_000000.bin", encoded.ids)
    return folder


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched here; test_hub.py has a hub of its own."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def source_of(folder: Path, **changes: Any) -> PublishedShards:
    settings: dict[str, Any] = {
        "path": str(folder),
        "tokenizer_path": "m.model",
        "name": "a_set",
        "repository": "hub/REPO",
        "dataset": "SET",
        "byte_counts": "sidecar",
        "val_tokens": 1,
        "val_bytes": 1,
    }
    return PublishedShards(**{**settings, **changes})


def prepare(root: Path, tokenizer: GivenTokenizer | None = None) -> tuple[Path, Manifest]:
    source, documents, shards = source_of(root / "published"), root / "documents", root / "shards"
    source.check()
    documents.mkdir()
    shards.mkdir()
    source.documents(documents, False)
    return shards, source.tokenize(documents, tokenizer or GivenTokenizer(), shards, False)


def test_manifest_names_the_files_where_they_are(tmp_path: Path) -> None:
    folder = write_published(tmp_path / "published")
    shards, manifest = prepare(tmp_path)
    assert not list(shards.glob("*.bin"))
    assert (shards / "tokenizer" / "tokenizer.json").is_file()
    assert Manifest.load(shards) == manifest
    manifest.verify(shards, hashes=True)
    assert manifest.validation.num_documents == 20
    assert manifest.validation.raw_bytes == sum(len(text.encode()) for text in TEXTS[:20])
    assert manifest.validation.document_bytes is None  # there is no text to count
    assert manifest.official_validation is False
    for opened in (shards, folder):  # through the manifest and without
        stream = TokenStream.open_validation(opened)
        assert stream.raw_bytes.sum() == manifest.validation.raw_bytes
        assert TokenStream.open_training(opened)[0].num_tokens == manifest.training.num_tokens
    validation_view(shards, tmp_path / "view")
    assert str(folder) not in (tmp_path / "view" / "manifest.json").read_text(encoding="utf-8")
    view = TokenStream.open_validation(tmp_path / "view")
    assert np.array_equal(view.ids, TokenStream.open_validation(folder).ids)


def test_check_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: files of a_set are missing.*hub/REPO"):
        source_of(tmp_path / "nowhere").check()
    folder = write_published(tmp_path / "deep")
    with pytest.raises(UserError, match=f"data.path={folder}"):
        source_of(tmp_path).check()
    source_of(folder).check()
    sidecar = folder / "fineweb_val_bytes_000001.bin"
    content = sidecar.read_bytes()
    sidecar.write_bytes(content[:-2])
    with pytest.raises(UserError, match=r"fineweb_val_bytes_000001\.bin: cut off"):
        source_of(folder).check()
    sidecar.unlink()
    with pytest.raises(UserError, match=r"1 byte sidecars .* for 2"):
        source_of(folder).check()
    (folder / "fineweb_val_bytes_000000.bin").unlink()
    with pytest.raises(UserError, match=r"missing \(fineweb_val_bytes_.*hub/REPO"):
        source_of(folder).check()
    (folder / "fineweb_train_000000.bin").unlink()
    with pytest.raises(UserError, match=r"missing \(fineweb_train_.*hub/REPO"):
        source_of(folder).check()


def test_ids_beyond_the_vocabulary_are_a_mismatch(tmp_path: Path) -> None:
    folder = write_published(tmp_path / "published")
    write_shard(folder / "fineweb_train_000001.bin", [1, 2, 264, 3])
    with pytest.raises(UserError, match=r"train_000001\.bin: token id 264 .*vocabulary of 264"):
        prepare(tmp_path)


def test_another_tokenizer_of_the_same_size_is_noticed(tmp_path: Path) -> None:
    write_published(tmp_path / "published")
    with pytest.raises(UserError, match="only 0 of 10 samples"):
        prepare(tmp_path, GivenTokenizer(shift=1))


def test_a_tokenizer_without_a_model_is_refused(tmp_path: Path) -> None:
    folder = write_published(tmp_path / "published")
    with pytest.raises(UserError, match=r"tokenizer\.path"):
        source_of(folder).tokenize(tmp_path, BytesTokenizer(vocab_size=264), tmp_path, False)


def test_cache_key_follows_the_files(tmp_path: Path) -> None:
    folder = write_published(tmp_path / "published")
    key = source_of(folder).cache_key()
    assert json.loads(json.dumps(key)) == key == source_of(folder).cache_key()
    write_shard(folder / "fineweb_train_000001.bin", [1, 2, 3])
    assert source_of(folder).cache_key() != key


def test_training_shards_can_be_chosen(tmp_path: Path) -> None:
    folder = write_published(tmp_path / "published")
    write_shard(folder / "fineweb_train_000001.bin", [1, 2, 3])
    files = source_of(folder, train_shards=1).shards.files()
    assert [path.name for path in files.training] == ["fineweb_train_000000.bin"]
    assert len(source_of(folder).shards.files().training) == 2
    with pytest.raises(UserError, match=r"fineweb_train_\*\.bin.*\(3\)"):
        source_of(folder, train_shards=3).check()
    with pytest.raises(UserError, match=r"train_shards=0: expected 1 or more"):
        source_of(folder, train_shards=0).check()


@pytest.mark.parametrize(
    ("documents", "tokens", "num_bytes", "official"),
    [
        (50_000, 1, 0, True),
        (50_000, 2048, 9000, True),
        (49_999, 1, 0, False),
        (50_000, 2049, 0, False),
        (50_000, -1, 0, False),
        (50_000, 1, -1, False),
        (50_000, 1, 200_000, False),
    ],
)
def test_official_by_published_totals(
    documents: int, tokens: int, num_bytes: int, official: bool
) -> None:
    from pgolf.data.manifest import File, Shard, Split

    source = source_of(Path("nowhere"), val_tokens=47851520, val_bytes=151074309)
    file = File("x", 0, "")
    split = Split([Shard(file, file, 47851520 + tokens, 151074309 + num_bytes)], documents, None)
    assert source.is_official(split) == official


def test_published_caseops_model_reads_its_own_tokens(tmp_path: Path) -> None:
    """Golden ids of real documents, as a published folder."""
    from pgolf.tokenizer.caseops import CaseOpsTokenizer

    shared, folder = require_reference(), tmp_path / "published"
    with open(shared / "golden" / "caseops.jsonl", encoding="utf-8") as file:
        records = [json.loads(line) for _, line in zip(range(30), file, strict=False)]
    folder.mkdir()
    ids = [value for record in records for value in (1, *record["ids"])]
    counts = [value for record in records for value in (0, *record["bytes"])]
    write_shard(folder / "fineweb_val_000000.bin", ids)
    write_shard(folder / "fineweb_val_bytes_000000.bin", counts)
    write_shard(folder / "fineweb_train_000000.bin", ids[:500])
    model = str(shared / "tokenizers" / "fineweb_8192_bpe_caseops.model")
    _, manifest = prepare(tmp_path, CaseOpsTokenizer(vocab_size=8192, path=model))  # type: ignore[arg-type]
    assert manifest.validation.num_documents == 30
    assert manifest.validation.raw_bytes == sum(record["raw_bytes"] for record in records)
