"""The published raw documents: fetched, divided by their number, official by published totals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgolf.data.corpus import documents_of
from pgolf.data.hub_documents import PublishedDocuments
from pgolf.errors import UserError
from tests.data.hub_server import HubServer
from tests.data.hub_sets import serving
from tests.data.samples import TEXTS, bytes_tokenizer

REPOSITORY, FILE = "someone/golf", "docs.jsonl"
LINES = "".join(json.dumps({"text": text}) + "\n" for text in [*TEXTS, TEXTS[3], TEXTS[50]])
VAL_BYTES = sum(len(text.encode()) for text in TEXTS[:20])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    files = {f"datasets/{FILE}": LINES.encode(), "datasets/manifest.json": b"{}"}
    with serving(monkeypatch, {REPOSITORY: files}) as server:
        yield server


def source_of(folder: Path, val_bytes: int = VAL_BYTES) -> PublishedDocuments:
    return PublishedDocuments(
        path=str(folder),
        name="some_docs",
        repository=REPOSITORY,
        file=FILE,
        val_documents=20,
        val_bytes=val_bytes,
    )


def test_documents_are_fetched_and_divided(server: HubServer, tmp_path: Path) -> None:
    source, folder, shards = source_of(tmp_path / "docs"), tmp_path / "d", tmp_path / "s"
    folder.mkdir()
    shards.mkdir()
    source.check()
    key = source.cache_key()
    corpus = source.documents(folder, show=False)
    assert (tmp_path / "docs" / FILE).read_bytes() == LINES.encode()
    assert source.cache_key() == key != source_of(tmp_path / "docs", 7).cache_key()
    assert list(documents_of(folder, "validation")) == TEXTS[:20]
    assert list(documents_of(folder, "training")) == TEXTS[20:]
    assert corpus.official_validation and corpus.training_documents_dropped == 1
    assert not source_of(tmp_path / "docs", VAL_BYTES + 70_000).is_official(corpus)
    manifest = source.tokenize(folder, bytes_tokenizer(), shards, False)
    assert manifest.official_validation and manifest.validation.num_documents == 20
    source.check()
    assert source.download(show=False)["fetched"] == 0


def test_a_missing_file_offline_is_named(server: HubServer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"missing \({FILE}\), and --offline: .*--to FOLDER"):
        source_of(tmp_path).download(show=False, offline=True)
    server.close()
    with pytest.raises(UserError, match="does not answer"):
        source_of(tmp_path).check()


def test_a_file_without_a_record_is_used_as_it_is(server: HubServer, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(LINES, encoding="utf-8")
    server.close()
    (tmp_path / "d").mkdir()
    source = source_of(tmp_path)
    source.check()
    assert source.documents(tmp_path / "d", show=False).num_documents["validation"] == 20
    assert source.download(show=False, offline=True)["files"] == 1
