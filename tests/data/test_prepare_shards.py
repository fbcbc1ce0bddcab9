"""Preparation in one go: killed and taken up again, by several processes, by the command."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.cli import main
from pgolf.clock import Clock
from pgolf.data import splitwriter
from pgolf.data.local import LocalText
from pgolf.data.prepare_shards import Prepared, prepare_shards
from pgolf.data.tokenize import Work
from pgolf.errors import UserError
from tests.data.samples import TEXTS, bytes_tokenizer, write_jsonl

ROOT = Path(__file__).resolve().parents[2]
KILLED = """
import os, signal, sys
from pathlib import Path
from pgolf.data import corpus, journal, manifest, shards, tokenize
from tests.data.test_prepare_shards import prepare_into
text, folder, module, name, calls = sys.argv[1:]
kind = sys.modules["pgolf.data." + module.split(".")[0]]
kind = getattr(kind, module.split(".")[1]) if "." in module else sys.modules["pgolf.data.tokenize"]
original, left = getattr(kind, name), int(calls)
def counted(*arguments):
    global left
    result, left = original(*arguments), left - 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(kind, name, counted)
prepare_into(Path(text), Path(folder), 300)
"""


def prepare_into(text: Path, folder: Path, shard_tokens: int, **work: object) -> Prepared:
    source = LocalText(path=str(text), val_rule="first:12")
    settings = Work(shard_tokens=shard_tokens, **work)  # type: ignore[arg-type]
    return prepare_shards(source, bytes_tokenizer(), folder, Clock({}), settings, show=False)


def digests(folder: Path) -> dict[str, str]:
    """Of all files that are a function of text and settings: the journal has times, too."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (".lock", "journal.json")
    }


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "text.jsonl", TEXTS)


@pytest.mark.parametrize(
    ("where", "name", "calls"),
    [
        ("corpus.CorpusWriter", "add", 30),
        ("journal.Journal", "save", 1),  # nothing but the tokenizer is done
        ("journal.Journal", "save", 3),  # in the middle of validation
        ("shards.ShardWriter", "append", 5),  # in the middle of a shard
        ("journal.Journal", "save", 11),  # in the middle of training
        ("blocks", "save_block_sums", 1),
        ("manifest.Manifest", "save", 1),
        ("journal.Journal", "finish", 1),  # all is done
    ],
)
def test_a_killed_preparation_ends_as_an_undisturbed_one(
    tmp_path: Path, text: Path, where: str, name: str, calls: int
) -> None:
    prepare_into(text, tmp_path / "whole", 300)
    folder = tmp_path / "cut"
    command = [sys.executable, "-c", KILLED, str(text), str(folder), where, name, str(calls)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    journal = folder / "journal.json"
    entries = json.loads(journal.read_text())["splits"] if journal.exists() else {}
    files = [e["shard"]["tokens"]["path"] for split in entries.values() for e in split]
    before = {file: (folder / file).stat().st_mtime_ns for file in files}
    again = prepare_into(text, folder, 300)
    assert {file: (folder / file).stat().st_mtime_ns for file in files} == before
    assert digests(folder) == digests(tmp_path / "whole")
    assert again.kept_shards == len(files)
    if (name, calls) == ("save", 3):
        assert len(files) == 2 and 0 < again.new_bytes < sum(len(t.encode()) for t in TEXTS)


@settings(max_examples=15, deadline=None)
@given(st.integers(40, 400), st.integers(1, 60))
def test_stopping_anywhere_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, shard_tokens: int, calls: int
) -> None:
    root = tmp_path_factory.mktemp("stop")
    text = write_jsonl(root / "text.jsonl", TEXTS[:20])
    prepare_into(text, root / "whole", shard_tokens)
    left, original = calls, splitwriter.SplitWriter._write

    def stopping(*arguments: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        original(*arguments)  # type: ignore[arg-type]

    splitwriter.SplitWriter._write = stopping  # type: ignore[method-assign, assignment]
    try:
        prepare_into(text, root / "cut", shard_tokens)
    except KeyboardInterrupt:
        pass
    finally:
        splitwriter.SplitWriter._write = original  # type: ignore[method-assign]
    prepare_into(text, root / "cut", shard_tokens)
    assert digests(root / "cut") == digests(root / "whole")


def test_a_finished_shard_that_was_damaged_is_made_again(tmp_path: Path, text: Path) -> None:
    prepare_into(text, tmp_path / "whole", 300)
    folder = tmp_path / "cut"
    command = [sys.executable, "-c", KILLED, str(text), str(folder), "journal.Journal", "save", "9"]
    subprocess.run(command, cwd=ROOT)
    num_validation = len(list(folder.glob("val_0*")))
    (folder / "train_000001.bin").write_bytes(b"gone")
    assert prepare_into(text, folder, 300).kept_shards == num_validation + 1
    assert digests(folder) == digests(tmp_path / "whole")


def test_a_second_time_there_is_nothing_to_do(tmp_path: Path, text: Path) -> None:
    first = prepare_into(text, tmp_path / "shards", 300)
    before = digests(tmp_path / "shards")
    second = prepare_into(text, tmp_path / "shards", 300)
    assert digests(tmp_path / "shards") == before
    assert (second.manifest, second.new_bytes, second.mb_per_s) == (first.manifest, 0, None)
    assert first.new_bytes == sum(len(t.encode()) for t in TEXTS) and first.mb_per_s


def test_folders_of_something_else_are_refused(tmp_path: Path, text: Path) -> None:
    folder = tmp_path / "shards"
    prepare_into(text, folder, 300)
    with pytest.raises(UserError, match=r"begun with another --shard-tokens \(see"):
        prepare_into(text, folder, 301)
    os.utime(text, ns=(1, 1))
    with pytest.raises(UserError, match=r"other text .* and another --shard-tokens \(see"):
        prepare_into(text, folder, 301)
    with pytest.raises(UserError, match=r"begun with other text \(or its files have other times"):
        prepare_into(text, folder, 300)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").write_text("mine")
    with pytest.raises(UserError, match="full is not empty"):
        prepare_into(text, tmp_path / "full", 300)
    (folder / "preparation.json").write_text("{")
    with pytest.raises(UserError, match=r"preparation\.json is damaged.*or delete this one"):
        prepare_into(text, folder, 300)
    with open(folder / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is preparing data there"):
            prepare_into(text, folder, 300)
    with pytest.raises(UserError, match="cannot write"):
        prepare_into(text, text / "below a file", 300)


def test_ray_makes_the_same_files(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    text = write_jsonl(tmp_path / "text.jsonl", [f"{i} " * 40_000 for i in range(10, 40)])
    prepare_into(text, tmp_path / "pool", 50_000)
    prepare_into(text, tmp_path / "ray", 50_000, engine="ray")
    ray.shutdown()
    assert digests(tmp_path / "ray") == digests(tmp_path / "pool")


def test_without_ray_its_engine_is_refused_before_anything_is_read(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="Ray is not installed; pip install"):
        prepare_into(text, tmp_path / "shards", 300, engine="ray")
    assert not (tmp_path / "shards").exists()


def test_the_command_prepares_and_says_what(
    tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "shards")
    command = ["data", "prepare", str(text), "-o", folder, "--validation", "first:5", "--json"]
    # An override behind an option, where argparse by itself takes none.
    assert main([*command, "tokenizer=bytes", "--processes", "1"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["validation"]["documents"] == 5 and answer["training"]["documents"] == 55
    assert answer["mb_per_s"] > 0 and answer["roundtrip"] == {"documents": 5, "exact": 5}
    assert main(["data", "verify", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]
    for wrong, words in (
        (["--validation", "last:5"], "--validation last:5: expected first:50000"),
        (["--shard-tokens", "0"], "--shard-tokens 0: expected 1 or more"),
        (["--validation", "first:60"], "no text is left for training"),
        (["--validation", "first:99999999999999999999"], "no text is left for training"),
        (["data.val_rule=hash:0.5"], "data.val_rule=hash:0.5: text and split come from INPUT"),
    ):
        target = str(tmp_path / words[:20])
        assert main([*command[:3], "-o", target, *wrong, "tokenizer=bytes"]) == 2
        assert words in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "nonsense"])
    inside = ["data", "prepare", str(tmp_path), "-o", str(tmp_path / "out"), "tokenizer=bytes"]
    assert main(inside) == 2 and "choose a folder outside" in capsys.readouterr().err
