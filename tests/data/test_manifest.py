"""The manifest comes back as it was, sees damage, and shows validation alone where asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pgolf.data.manifest import MANIFEST, Manifest
from pgolf.data.stream import TokenStream
from pgolf.data.view import validation_view
from pgolf.errors import UserError
from tests.data.samples import prepare


def test_round_trip(tmp_path: Path) -> None:
    folder, manifest = prepare(tmp_path, shard_tokens=500)
    assert Manifest.load(folder) == manifest
    manifest.verify(folder, hashes=True)
    written = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    assert written["validation"]["raw_bytes"] == written["validation"]["document_bytes"]
    assert written["training"]["num_tokens"] == manifest.training.num_tokens


@pytest.mark.parametrize("hashes", [False, True])
def test_changed_files_are_named(tmp_path: Path, hashes: bool) -> None:
    folder, manifest = prepare(tmp_path)
    path = folder / "val_bytes_000000.bin"
    content = path.read_bytes()
    if hashes:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        manifest.verify(folder)  # sizes alone do not see it
    else:
        path.write_bytes(content[:-2])
    with pytest.raises(UserError, match=r"val_bytes_000000\.bin"):
        manifest.verify(folder, hashes)


def test_missing_file_is_named(tmp_path: Path) -> None:
    folder, manifest = prepare(tmp_path)
    (folder / "train_000000.bin").unlink()
    with pytest.raises(UserError, match=r"train_000000\.bin: missing"):
        manifest.verify(folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ("{}", "damaged"),
        ('{"schema": 1}', "damaged"),
        ('{"schema": 99}', "schema 99, this pgolf reads 1"),
    ],
)
def test_unreadable_manifest_is_named(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / MANIFEST).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=f"{MANIFEST}.*{words}"):
        Manifest.load(tmp_path)


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="prepare the data again"):
        Manifest.load(tmp_path)


def test_view_has_validation_and_nothing_of_training(tmp_path: Path) -> None:
    folder, manifest = prepare(tmp_path)
    target = tmp_path / "work" / "view"
    for _ in range(2):  # a second time over the first
        view = validation_view(folder, target)
    assert {path.name for path in target.iterdir()} == {
        "val_000000.bin",
        "val_bytes_000000.bin",
        MANIFEST,
    }
    assert "train_0" not in (target / MANIFEST).read_text(encoding="utf-8")
    assert Manifest.load(target) == view
    view.verify(target, hashes=True)
    assert view.validation.document_bytes == manifest.validation.document_bytes
    seen, original = TokenStream.open_validation(target), TokenStream.open_validation(folder)
    assert seen.ids.tolist() == original.ids.tolist()
    assert seen.raw_bytes.tolist() == original.raw_bytes.tolist()
    with pytest.raises(UserError, match="no training shards"):
        TokenStream.open_training(target)


def test_view_refuses_a_damaged_validation_file(tmp_path: Path) -> None:
    folder, _ = prepare(tmp_path)
    (folder / "val_000000.bin").write_bytes(b"")
    (folder / "train_000000.bin").unlink()  # not looked at
    with pytest.raises(UserError, match=r"val_000000\.bin"):
        validation_view(folder, tmp_path / "view")
