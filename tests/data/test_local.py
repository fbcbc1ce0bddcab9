"""Your own text: splits are disjoint and deterministic, duplicates go, faults are named."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.data.corpus import Corpus, documents_of
from pgolf.data.local import LocalText
from pgolf.errors import UserError
from tests.data.samples import TEXTS, collect, write_jsonl
from tests.reference import require_reference


def splits(folder: Path) -> tuple[list[str], list[str]]:
    return list(documents_of(folder, "training")), list(documents_of(folder, "validation"))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("ab", max_size=4), min_size=1), st.floats(0.01, 0.99))
def test_split_is_a_division_of_the_different_texts(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], fraction: float
) -> None:
    root = tmp_path_factory.mktemp("local")
    source = LocalText(path=str(write_jsonl(root / "a.jsonl", texts)), val_rule=f"hash:{fraction}")
    if len(set(texts) - {""}) < 2:
        return
    try:
        folder, corpus = collect(source, root)
    except UserError as error:  # one split got nothing but the empty document
        assert "" in texts and "no text is left" in str(error)
        return
    training, validation = splits(folder)
    assert sorted(training + validation) == sorted(set(texts))
    assert corpus.duplicates_removed == len(texts) - len(set(texts))
    assert corpus.num_documents == {"training": len(training), "validation": len(validation)}
    assert corpus.document_bytes["validation"] == sum(map(len, validation))
    assert Corpus.load(folder) == corpus


def test_split_does_not_depend_on_the_order_of_documents(tmp_path: Path) -> None:
    chosen = []
    for name in ("a", "b"):
        root = tmp_path / name
        root.mkdir()
        texts = random.Random(name).sample(TEXTS, len(TEXTS))
        folder, _ = collect(LocalText(path=str(write_jsonl(root / "t.jsonl", texts))), root)
        chosen.append(set(splits(folder)[1]))
    assert chosen[0] == chosen[1]


def test_validation_takes_about_its_part(tmp_path: Path) -> None:
    source = LocalText(path=str(write_jsonl(tmp_path / "a.jsonl", TEXTS)), val_rule="hash:0.25")
    _, corpus = collect(source, tmp_path)
    total = sum(corpus.document_bytes.values())
    longest = max(len(text.encode()) for text in TEXTS)
    assert 0 <= corpus.document_bytes["validation"] - 0.25 * total < longest


def test_given_validation_stays_whole_and_out_of_training(tmp_path: Path) -> None:
    validation = [*TEXTS[10:15], TEXTS[10], "only here"]
    source = LocalText(
        path=str(write_jsonl(tmp_path / "train.jsonl", [*TEXTS, TEXTS[0], TEXTS[0]])),
        val_path=str(write_jsonl(tmp_path / "val.jsonl", validation)),
    )
    folder, corpus = collect(source, tmp_path)
    assert splits(folder) == (TEXTS[:10] + TEXTS[15:], validation)
    assert corpus.training_documents_dropped == 5
    assert corpus.duplicates_removed == 2
    assert corpus.official_validation is None


@pytest.mark.parametrize("given", [True, False])
def test_max_bytes_takes_the_first_documents(tmp_path: Path, given: bool) -> None:
    limit = sum(len(text.encode()) for text in TEXTS[:9]) + 1  # the tenth is begun, so it is taken
    source = LocalText(
        path=str(write_jsonl(tmp_path / "a.jsonl", TEXTS)),
        val_path=str(write_jsonl(tmp_path / "val.jsonl", ["x"])) if given else None,
        max_bytes=limit,
    )
    training, validation = splits(collect(source, tmp_path)[0])
    assert sorted(training + validation * (not given)) == sorted(TEXTS[:10])


@pytest.mark.parametrize(
    ("texts", "val_texts", "words"),
    [
        (["one"], None, "no text is left for validation.*needs different documents"),
        (["one", "one"], None, "duplicates removed: 1"),
        (["one", "two"], ["two", "one"], "no text is left for training.*dropped.*: 2"),
        (["one", "two"], [""], "no text is left for validation"),
    ],
)
def test_empty_splits_are_refused(
    tmp_path: Path, texts: list[str], val_texts: list[str] | None, words: str
) -> None:
    path = str(write_jsonl(tmp_path / "a.jsonl", texts))
    val_path = str(write_jsonl(tmp_path / "v.jsonl", val_texts)) if val_texts is not None else None
    with pytest.raises(UserError, match=words):
        collect(LocalText(path=path, val_path=val_path), tmp_path)


def test_check_finds_what_is_wrong_at_once(tmp_path: Path) -> None:
    good = str(write_jsonl(tmp_path / "good.jsonl", TEXTS))
    LocalText(path=good).check()
    LocalText(path=str(tmp_path), val_path=good).check()
    (tmp_path / "bad").mkdir()
    bad = tmp_path / "bad" / "bad.jsonl"
    bad.write_text("no json", encoding="utf-8")
    for source, words in (
        (LocalText(path=str(tmp_path / "gone.txt")), r"gone\.txt: no such file"),
        (LocalText(path=good, val_path=str(bad)), r"bad\.jsonl, line 1: no JSON"),
        (LocalText(path=good, val_rule="hash:1.0"), r"data\.val_rule=hash:1\.0: expected first:"),
        (LocalText(path=good, max_bytes=0), r"data\.max_bytes=0"),
    ):
        with pytest.raises(UserError, match=words):
            source.check()


def test_cache_key_follows_settings_and_files(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", TEXTS)
    key = LocalText(path=str(path)).cache_key()
    assert json.loads(json.dumps(key)) == key == LocalText(path=str(path)).cache_key()
    keys = [
        key,
        LocalText(path=str(path), val_rule="hash:0.5").cache_key(),
        LocalText(path=str(path), max_bytes=5).cache_key(),
        LocalText(path=str(path), val_path=str(path)).cache_key(),
    ]
    os.utime(path, ns=(1, 1))
    keys.append(LocalText(path=str(path)).cache_key())
    assert len({json.dumps(key) for key in keys}) == 5
    # Without effect beside a given validation.
    given = [LocalText(path=str(path), val_path=str(path), val_rule=f"first:{n}") for n in (1, 2)]
    assert given[0].cache_key() == given[1].cache_key()


def test_real_files_are_read(tmp_path: Path) -> None:
    data = require_reference() / "data"
    source = LocalText(
        path=str(data / "train_docs.jsonl.zst"),
        val_path=str(data / "fineweb_verify_docs.jsonl"),
        max_bytes=2_000_000,
    )
    source.check()
    folder, corpus = collect(source, tmp_path)
    assert corpus.num_documents["validation"] == 200
    assert corpus.document_bytes["validation"] == 1_489_515
    assert 2_000_000 <= corpus.document_bytes["training"] < 2_200_000
    # Independently read: the first lines of the archive.
    with (
        open(data / "train_docs.jsonl.zst", "rb") as file,
        zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(file) as stream,
    ):
        expected = json.loads(stream.read(1 << 20).partition(b"\n")[0])["text"]
    assert next(documents_of(folder, "training")) == expected
