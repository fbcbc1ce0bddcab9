"""Atomic writing under failures of the disk and of the writer; hashes against hashlib."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf import files
from pgolf.errors import UserError
from pgolf.files import atomic_writer, explain_os_error, sha256_file, sha256_json, write_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda child: st.lists(child) | st.dictionaries(st.text(), child),
    max_leaves=8,
)


def test_a_file_appears_whole_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with atomic_writer(path) as file:
        file.write(b"x" * 100_000)
        assert not path.exists()
    assert path.read_bytes() == b"x" * 100_000 and os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_writer_leaves_the_file_before(tmp_path: Path, interruption: type) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(interruption), atomic_writer(path, "w") as file:
        file.write("after")
        raise interruption
    assert path.read_text() == "before" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_leaves_the_file_before_and_names_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"before")
    # The writer's temporary file is on a device that is always full.
    os.symlink("/dev/full", tmp_path / f".a.bin.{os.getpid()}.partial")
    with pytest.raises(UserError, match="no space left") as caught, atomic_writer(path) as file:
        file.write(b"x" * 100_000)
    assert str(path) in str(caught.value) and "PGOLF_CACHE" in str(caught.value)
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["a.bin"]


def test_a_disk_that_is_full_only_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UserError, match="no space left"):
        write_json(tmp_path / "a.json", {"a": 1})
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_place_of_a_folder_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/a\.json"):
        write_json(tmp_path / "file" / "a.json", {})


@pytest.mark.parametrize("name", ["EACCES", "EROFS", "EPERM", "ENOTDIR", "ENAMETOOLONG"])
def test_unwritable_places_are_the_users_errors(name: str) -> None:
    number = getattr(errno, name)
    error = explain_os_error(OSError(number, os.strerror(number)), Path("/some/where"))
    assert isinstance(error, UserError)
    assert "/some/where" in str(error) and os.strerror(number) in str(error)


def test_other_errors_stay_what_they_are() -> None:
    error = OSError(errno.EIO, "input/output error")
    assert explain_os_error(error, Path("a")) is error


@given(JSON)
def test_json_goes_through_a_file(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert json.loads(path.read_text(encoding="utf-8")) == value


@given(st.dictionaries(st.text(), JSON), st.randoms())
def test_the_hash_of_json_is_blind_to_order_only(
    value: dict[str, object], order: random.Random
) -> None:
    items = list(value.items())
    order.shuffle(items)
    assert sha256_json(dict(items)) == sha256_json(value)
    assert sha256_json({**value, "another key": 1}) != sha256_json(value) or "another key" in value


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    content = random.Random(0).randbytes(300_001)
    (tmp_path / "a").write_bytes(content)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(content).hexdigest()
