"""The same command in a finished, damaged or given up folder ends as an undisturbed one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pgolf.clock import Clock
from pgolf.data import journal
from pgolf.data.local import LocalText
from pgolf.data.prepare_shards import Prepared, prepare_shards
from pgolf.data.tokenize import Work
from pgolf.errors import UserError
from pgolf.files import sha256_file
from pgolf.tokenizer.sp import SentencePieceTokenizer
from tests.data.samples import TEXTS, bytes_tokenizer, write_jsonl
from tests.data.test_prepare_shards import KILLED, ROOT, digests, prepare_into


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished")
    prepare_into(write_jsonl(root / "text.jsonl", TEXTS), root / "shards", 300)
    return root


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("train_000000.bin", 3),
        ("train_000003.bin", 6),
        ("val_000001.bin", 12),
        ("val_bytes_000002.bin", 13),
        ("manifest.json", 14),
        ("blocks.json", 14),
        ("tokenizer/tokenizer.json", 14),
        ("documents/validation.jsonl.zst", 14),
        ("documents/documents.json", 14),
        ("journal.json", 0),
    ],
)
@pytest.mark.parametrize("how", ["flipped", "cut", "missing"])
def test_the_same_command_repairs_a_finished_folder(
    finished: Path, tmp_path: Path, name: str, kept: int, how: str
) -> None:
    """Flipped, cut off or missing files come back, and what was not damaged is not touched."""
    folder, path = tmp_path / "shards", tmp_path / "shards" / name
    shutil.copytree(finished / "shards", folder)
    before, data = digests(folder), bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    else:
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data[: None if how == "flipped" else -1])
    done = prepare_into(finished / "text.jsonl", folder, 300)
    assert digests(folder) == before
    assert done.damaged == ([name] if name != "journal.json" else [])
    assert done.kept_shards == kept
    again = prepare_into(finished / "text.jsonl", folder, 300)
    assert (again.damaged, again.kept_shards, again.seconds) == ([], 14, {})


def test_only_files_that_were_touched_are_hashed_again(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, hashed = tmp_path / "shards", []
    shutil.copytree(finished / "shards", folder)

    def counting(path: Path) -> str:
        hashed.append(path.name)
        return sha256_file(path)

    monkeypatch.setattr(journal, "sha256_file", counting)
    for touched in (["train_000002.bin", "manifest.json"], []):
        for name in touched:
            os.utime(folder / name, ns=(1, 1))
        assert prepare_into(finished / "text.jsonl", folder, 300).seconds == {}
        assert hashed == touched
        hashed.clear()


def test_a_killed_repair_is_gone_on_with(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    shutil.copytree(finished / "shards", folder)
    before = digests(folder)
    (folder / "train_000002.bin").unlink()
    names = "journal.Journal", "save", "2"
    command = [sys.executable, "-c", KILLED, str(finished / "text.jsonl"), str(folder), *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert prepare_into(finished / "text.jsonl", folder, 300).kept_shards == 7
    assert digests(folder) == before


def test_an_attempt_without_shards_does_not_claim_the_folder(tmp_path: Path) -> None:
    """The corrected command goes on in the same folder: rule, text, and what the tokenizer is."""
    text = write_jsonl(tmp_path / "text.jsonl", TEXTS)
    folder, clock = tmp_path / "shards", Clock({})
    prepare_into(text, tmp_path / "whole", 300)

    def attempt(tokenizer: object, rule: str = "first:12") -> Prepared:
        source = LocalText(path=str(text), val_rule=rule)
        return prepare_shards(source, tokenizer, folder, clock, Work(shard_tokens=300), show=False)

    with pytest.raises(UserError, match="no text is left for training"):
        attempt(bytes_tokenizer(), "first:50000")
    good = text.read_bytes()
    text.write_bytes(good + b"{no json\n")
    with pytest.raises(UserError, match="line 61: no JSON"):
        attempt(bytes_tokenizer())
    text.write_bytes(good)
    with pytest.raises(UserError, match="suffices for"):
        attempt(SentencePieceTokenizer(vocab_size=8192))
    divided = (folder / "documents" / "documents.json").stat().st_mtime_ns
    attempt(bytes_tokenizer())  # with the same source the text is not divided again
    assert (folder / "documents" / "documents.json").stat().st_mtime_ns == divided
    assert digests(folder).keys() == digests(tmp_path / "whole").keys()
    for path in folder.glob("*.bin"):
        assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes()
