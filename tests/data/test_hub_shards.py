"""A run fetches by itself what is missing; its keys do not change by that, but by other content."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pgolf.data.hub_record import RECORD, Record, git_blob_sha1
from pgolf.errors import UserError
from tests.data.hub_server import HubServer
from tests.data.hub_sets import (
    MODEL,
    REPOSITORY,
    SET,
    TRAIN,
    VAL,
    content_of,
    source_of,
    whole,
)
from tests.data.test_published import GivenTokenizer


def test_a_source_fetches_what_is_missing(server: HubServer, tmp_path: Path) -> None:
    folder, documents, shards = (tmp_path / name for name in ("a_set", "documents", "shards"))
    documents.mkdir()
    shards.mkdir()
    source = source_of(folder, train_shards=2)
    source.check()
    assert whole(folder, [MODEL])  # opened next, the rest can wait
    key = source.cache_key()
    source.documents(documents, show=False)
    assert whole(folder, SET[:5]) and source.cache_key() == key
    manifest = source.tokenize(documents, GivenTokenizer(), shards, False)
    assert len(manifest.training.shards) == 2 and manifest.validation.num_documents == 10
    manifest.verify(shards, hashes=True)
    assert source_of(folder, train_shards=1).cache_key() != key
    again = source_of(folder, train_shards=2)
    again.check()
    assert again.cache_key() == key


def test_a_changed_file_changes_the_key_and_is_fetched_again(
    server: HubServer, tmp_path: Path
) -> None:
    source = source_of(tmp_path / "a_set")
    source.download(show=False)
    key = source.cache_key()
    path = tmp_path / "a_set" / TRAIN
    os.utime(path, (1, 1))  # copied, say
    assert source.cache_key() != key
    source.check()
    assert source.cache_key() == key
    path.write_bytes(bytes(len(content_of(TRAIN))))
    os.utime(path, (2, 2))
    source.check()
    assert source.cache_key() != key
    source.documents(tmp_path, show=False)
    assert source.cache_key() == key and path.read_bytes() == content_of(TRAIN)


def test_the_record_keeps_what_it_knows(server: HubServer, tmp_path: Path) -> None:
    source_of(tmp_path).download(show=False)
    record = Record.load(tmp_path)
    assert record is not None and set(record.checked) == set(SET) == set(record.files)
    other = Record(REPOSITORY, "another", {VAL: record.files[TRAIN]}).after(record, tmp_path)
    assert not other.is_checked(tmp_path, VAL) and other.is_checked(tmp_path, TRAIN)
    (tmp_path / RECORD).write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=rf"{RECORD} cannot be read"):
        source_of(tmp_path).check()


def test_a_blob_is_hashed_as_git_does(tmp_path: Path) -> None:
    path = tmp_path / "hello"
    path.write_bytes(b"hello\n")
    assert git_blob_sha1(path) == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object


def test_rests_of_another_revision_are_removed(server: HubServer, tmp_path: Path) -> None:
    (tmp_path / f".{VAL}.0123456789ab.part").write_bytes(b"old")
    source_of(tmp_path).download(show=False)
    assert whole(tmp_path)
