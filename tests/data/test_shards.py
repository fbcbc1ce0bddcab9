"""The shard format: layout byte by byte, round trip, every kind of damage, telling files apart."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf.data.shards import (
    HEADER_BYTES,
    check_sidecar,
    find_published,
    read_shard,
    shard_length,
    shard_writer,
)
from pgolf.errors import UserError
from tests.data.samples import write_shard


def test_layout_is_the_published_one(tmp_path: Path) -> None:
    content = write_shard(tmp_path / "a.bin", [1, 2, 65535]).read_bytes()
    header = struct.pack("<256i", 20240520, 1, 3, *[0] * 253)
    assert content == header + struct.pack("<3H", 1, 2, 65535)


@given(st.lists(st.lists(st.integers(0, 65535), max_size=5), max_size=5))
def test_pieces_come_back_as_one(tmp_path_factory: pytest.TempPathFactory, pieces: list) -> None:
    path = tmp_path_factory.mktemp("shard") / "a.bin"
    with shard_writer(path) as writer:
        for piece in pieces:
            writer.append(np.array(piece, np.uint16))
    expected = [value for piece in pieces for value in piece]
    assert read_shard(path).tolist() == expected
    assert shard_length(path) == len(expected)


def test_reading_maps_the_file(tmp_path: Path) -> None:
    values = read_shard(write_shard(tmp_path / "a.bin", range(1000)))
    assert not values.flags.writeable and type(values) is np.ndarray
    assert values.dtype == np.uint16


def test_a_failed_writer_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), shard_writer(tmp_path / "a.bin") as writer:
        writer.append(np.ones(10, np.uint16))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda b: b[:-1], "cut off.*10 values.*copy it again"),
        (lambda b: b[:HEADER_BYTES], "cut off"),
        (lambda b: b + b"x", "too long"),
        (lambda b: b[:100], "100 bytes.*header of 1024"),
        (lambda b: b"", "0 bytes"),
        (lambda b: b"\0" + b[1:], "another kind of file"),
        (lambda b: b[:4] + b"\2" + b[5:], "version 2.*another kind"),
        (lambda b: b[:8] + b"\xff\xff\xff\xff" + b[12:], "-1 values"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage, words: str) -> None:  # type: ignore[no-untyped-def]
    path = write_shard(tmp_path / "fineweb_val_000000.bin", range(10))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=f"fineweb_val_000000.bin.*{words}"):
        read_shard(path)


def test_missing_shard_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.bin.*No such file"):
        read_shard(tmp_path / "gone.bin")


def test_sidecar_of_another_length_is_refused(tmp_path: Path) -> None:
    tokens = write_shard(tmp_path / "t.bin", range(10))
    check_sidecar(tokens, write_shard(tmp_path / "good.bin", range(10)))
    with pytest.raises(UserError, match=r"bad\.bin: 9 byte counts for the 10 tokens"):
        check_sidecar(tokens, write_shard(tmp_path / "bad.bin", range(9)))


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()


def test_sidecars_are_never_taken_for_tokens(tmp_path: Path) -> None:
    names = ["val_000000", "val_000001", "val_bytes_000000", "val_bytes_000001", "train_000000"]
    touch(tmp_path, *(f"fineweb_{name}.bin" for name in names), "fineweb_val_000000.bin.part")
    found = find_published(tmp_path)
    assert [p.name for p in found.validation] == [
        "fineweb_val_000000.bin",
        "fineweb_val_000001.bin",
    ]
    assert [p.name for p in found.sidecars] == [
        "fineweb_val_bytes_000000.bin",
        "fineweb_val_bytes_000001.bin",
    ]
    assert [p.name for p in found.training] == ["fineweb_train_000000.bin"]


def test_only_the_training_shards_that_are_used_have_to_be_there(tmp_path: Path) -> None:
    touch(tmp_path, *(f"fineweb_{name}.bin" for name in ("val_000000", "train_000000")))
    touch(tmp_path, "fineweb_train_000001.bin", "fineweb_train_000005.bin")  # a download goes on
    assert len(find_published(tmp_path, 2).training) == 2
    with pytest.raises(UserError, match=r"train_000002\.bin: missing"):
        find_published(tmp_path, 3)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "no validation shards"),
        (["val_bytes_000000"], "no validation shards"),
        (["val_000000", "val_000002"], "val_000001.bin: missing, but .* up to .*val_000002"),
        (["val_000000", "train_000001"], "train_000000.bin: missing, but .* up to .*train_000001"),
        (["val_000000", "train_000000", "train_000002"], "train_000001.bin: missing"),
        (["val_000000", "val_bytes_000001"], "1 byte sidecars .* for 1"),
        (["val_000000", "val_000001", "val_bytes_000000"], "1 byte sidecars .* for 2"),
    ],
)
def test_incomplete_sets_are_refused(tmp_path: Path, names: list[str], words: str) -> None:
    touch(tmp_path, *(f"fineweb_{name}.bin" for name in names))
    with pytest.raises(UserError, match=words):
        find_published(tmp_path)


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        find_published(tmp_path / "nowhere")
