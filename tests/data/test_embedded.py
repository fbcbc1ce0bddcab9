"""The embedded corpus on a tiny tree of packages: what is found, kept and divided."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pgolf.data.corpus import Corpus, documents_of
from pgolf.data.embedded import (
    PACKAGES,
    EmbeddedText,
    collect,
    drop_near_duplicates,
    extract,
    source_files,
    source_roots,
)
from pgolf.errors import UserError

LONG = "explains at some length what is to be explained, with {} other words so that it is kept."
SOURCE = '''
"""Module {n} {long}"""
raise RuntimeError("must not be imported")

class A{n}:
    """  Class {n} {long}

        Indented {n}.
    """

    async def f(self):
        "Method {n} {long}"

def g():
    """Too short."""

def h():
    value = """No docstring {long}"""
'''


def write_tree(root: Path, count: int = 6) -> Path:
    for i in range(count):
        folder = root / f"part{i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        words = " ".join(f"{chr(97 + i)}{'xyz'[k % 3] * (k % 11 + 1)}" for k in range(40))
        long = LONG.format(words)
        source = SOURCE.format(n="abcdef"[i] * 3, long=long)
        (folder / f"module{i}.py").write_text(source, encoding="utf-8")
    return root


def test_docstrings_of_all_kinds_are_found_and_cleaned(tmp_path: Path) -> None:
    texts = list(extract(source_files(write_tree(tmp_path, 1)), 50, 1, False))
    assert [text.split()[0] for text in texts] == ["Module", "Class", "Method"]
    assert texts[1].endswith("\n\nIndented aaa.")


def test_help_topics_are_documents(tmp_path: Path) -> None:
    folder = tmp_path / "pydoc_data"
    folder.mkdir()
    topics = {"assert": "The assert statement\n" * 5, "short": "x", "if": "The if statement\n" * 5}
    (folder / "topics.py").write_text(f"topics = {topics!r}\n", encoding="utf-8")
    texts = list(extract(source_files(tmp_path), 50, 1, False))
    assert texts == [topics["assert"].strip(), topics["if"].strip()]


def test_tests_caches_and_broken_files_are_passed_over(tmp_path: Path) -> None:
    write_tree(tmp_path, 2)
    expected = list(extract(source_files(tmp_path), 50, 1, False))
    for skipped in ("tests", "site-packages/other", "__pycache__"):
        write_tree(tmp_path / skipped)
    (tmp_path / "broken.py").write_text("def (", encoding="utf-8")
    (tmp_path / "binary.py").write_bytes(b"\xff\x00\xfe")
    surrogate = "def f():\n    '''" + "word " * 60 + "\\ud800'''\n"
    (tmp_path / "surrogate.py").write_text(surrogate, encoding="utf-8")
    assert list(extract(source_files(tmp_path), 50, 1, False)) == expected


def test_splits_are_disjoint_complete_and_deterministic(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree")
    results = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        corpus = collect([tree], tmp_path / name, False, val_bytes=1500, min_chars=50)
        splits = [list(documents_of(tmp_path / name, s)) for s in ("training", "validation")]
        results.append((corpus, splits))
    assert results[0] == results[1]
    corpus, (training, validation) = results[0]
    assert corpus == Corpus.load(tmp_path / "a") and corpus.official_validation is False
    assert set(training).isdisjoint(validation)
    # Of each module's three texts, which share most of their words, the first stays.
    everything = list(extract(source_files(tree), 50, 1, False))
    assert sorted(training + validation) == sorted(everything[::3])
    assert corpus.duplicates_removed == 12
    sizes = [len(text.encode()) for text in validation]
    assert sum(sizes[:-1]) < 1500 <= sum(sizes)


def test_processes_change_nothing(tmp_path: Path) -> None:
    files = source_files(write_tree(tmp_path)) * 20  # several items of work
    assert list(extract(files, 50, 2, False)) == list(extract(files, 50, 1, False))


def test_near_duplicates_by_runs_of_words() -> None:
    text = " ".join(f"word{chr(97 + i)}" for i in range(26))
    assert drop_near_duplicates([text, text.upper() + "!", text + " 42", text + " and more"]) == [
        text
    ]
    other = " ".join(reversed(text.split()))
    assert drop_near_duplicates([text, other]) == [text, other]
    half = " ".join(text.split()[:12]) + " " + other
    assert drop_near_duplicates([text, half]) == [text, half]
    assert drop_near_duplicates(["one two", "One, two."]) == ["one two"]


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no text is left"):
        collect([tmp_path], tmp_path, False, val_bytes=10, min_chars=10)


def test_settings_are_checked() -> None:
    EmbeddedText().check()
    with pytest.raises(UserError, match=r"data\.val_bytes=0"):
        EmbeddedText(val_bytes=0).check()
    with pytest.raises(UserError, match=r"data\.min_chars=0"):
        EmbeddedText(min_chars=0).check()


def test_packages_are_found_without_importing_them() -> None:
    code = (
        "import sys; from pgolf.data.embedded import EmbeddedText, source_roots, PACKAGES\n"
        "assert len(source_roots(PACKAGES)) == 5; EmbeddedText().check()\n"
        "assert len(EmbeddedText().cache_key()['packages']) == 4\n"
        "assert not {'torch', 'sympy', 'networkx', 'pyarrow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    stdlib, *packages = source_roots(PACKAGES)
    assert (stdlib / "ast.py").is_file()
    assert [root.name for root in packages] == list(PACKAGES)


def test_cache_key_follows_settings() -> None:
    key = EmbeddedText().cache_key()
    assert json.loads(json.dumps(key)) == key
    assert key != EmbeddedText(val_bytes=1).cache_key()
    assert key != EmbeddedText(min_chars=1).cache_key()
