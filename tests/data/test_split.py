"""Rules of division: each takes what it says, and training never holds a validation document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.data.corpus import documents_of
from pgolf.data.local import LocalText
from pgolf.data.split import parse_rule
from pgolf.errors import UserError
from tests.data.samples import TEXTS, collect, write_jsonl


def divided(root: Path, texts: list[str], rule: str) -> tuple[list[str], list[str], int, int]:
    """Training, validation, repeated and dropped documents."""
    root.mkdir(exist_ok=True)
    source = LocalText(path=str(write_jsonl(root / "a.jsonl", texts)), val_rule=rule)
    folder, corpus = collect(source, root)
    splits = [list(documents_of(folder, split)) for split in ("training", "validation")]
    return splits[0], splits[1], corpus.duplicates_removed, corpus.training_documents_dropped


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=30), st.integers(1, 29))
def test_first_takes_documents_as_they_are(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], count: int
) -> None:
    validation = texts[:count]
    rest = [text for text in texts[count:] if text not in validation]
    if not rest:
        return
    found = divided(tmp_path_factory.mktemp("first"), texts, f"first:{count}")
    dropped = sum(text in validation for text in texts[count:])
    assert found == (list(dict.fromkeys(rest)), validation, len(rest) - len(set(rest)), dropped)


def test_source_is_a_field_or_the_name_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    rows = [
        {"text": "one", "source": "news"},
        {"text": "two", "source": "blog"},
        {"text": "three"},
        {"text": "two", "source": "news"},
        {"text": "one", "source": "news"},
    ]
    path = tmp_path / "in" / "web.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "in" / "letters.txt").write_text("four", encoding="utf-8")
    for rule, validation, training in (
        ("source:news", ["one", "two", "one"], ["four", "three"]),
        ("source:web", ["three"], ["four", "one", "two"]),
        ("source:letters", ["four"], ["one", "two", "three"]),
    ):
        root = tmp_path / rule
        root.mkdir()
        folder, corpus = collect(LocalText(path=str(tmp_path / "in"), val_rule=rule), root)
        assert list(documents_of(folder, "validation")) == validation
        assert list(documents_of(folder, "training")) == training
        assert corpus.training_documents_dropped == (1 if rule == "source:news" else 0)
        assert rule.partition(":")[2] in corpus.split_rule


def test_file_is_the_same_as_val_path(tmp_path: Path) -> None:
    val = str(write_jsonl(tmp_path / "val.jsonl", TEXTS[:4]))
    path = str(write_jsonl(tmp_path / "a.jsonl", TEXTS))
    by_rule, by_path = (
        LocalText(path=path, val_rule=f"file:{val}"),
        LocalText(path=path, val_path=val),
    )
    assert by_rule.cache_key() == by_path.cache_key()
    folder, corpus = collect(by_rule, tmp_path)
    assert list(documents_of(folder, "validation")) == TEXTS[:4]
    assert corpus.training_documents_dropped == 4


def test_by_hash_equals_the_slow_way(tmp_path: Path) -> None:
    """All documents sorted by their hash, taken until there are enough bytes."""
    from pgolf.data.corpus import document_key

    texts = [f"{number} {'x' * (number % 13)}" for number in range(400)]
    training, validation, _, _ = divided(tmp_path / "a", texts, "hash:0.1")
    wanted, taken, expected = 0.1 * sum(map(len, texts)), 0, set()
    for text in sorted(texts, key=document_key):
        if taken >= wanted:
            break
        expected.add(text)
        taken += len(text)
    assert set(validation) == expected
    assert training == [text for text in texts if text not in expected]


@pytest.mark.parametrize(
    "rule",
    ["", "first", "first:", "first:0", "first:-3", "first:1.5", "hash:0", "hash:1", "hash:nan",
     "hash:x", "source:", "file:", "last:5", "0.02"],
)  # fmt: skip
def test_what_is_no_rule_is_refused(rule: str) -> None:
    with pytest.raises(UserError, match=r"--validation .*: expected first:50000"):
        parse_rule(rule, "--validation ")
