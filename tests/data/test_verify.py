"""Verification: clean folders pass; each injected fault is named with file, byte and remedy."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.cli import main
from pgolf.clock import Clock
from pgolf.data.blocks import BLOCK_BYTES, damaged_block, save_block_sums
from pgolf.data.faults import Check, Files
from pgolf.data.local import LocalText
from pgolf.data.manifest import File, Manifest
from pgolf.data.prepare_shards import prepare_shards
from pgolf.data.shards import HEADER_BYTES, read_shard
from pgolf.data.tokenize import Work
from pgolf.data.verify import split_documents, verify_folder
from pgolf.tokenizer.bytes import BytesTokenizer
from pgolf.tokenizer.caseops import CaseOpsTokenizer
from tests.data.samples import TEXTS, bytes_tokenizer, write_jsonl, write_shard

BOS = 256
TOKENS = ["ids", "documents", "bytes", "disjoint"]  # checks that need the tokenizer


def make(folder: Path, tokenizer: object = None, texts: list[str] = TEXTS) -> Path:
    """A prepared folder; training and validation have several shards each."""
    text = write_jsonl(folder.parent / "text.jsonl", texts)
    source = LocalText(path=str(text), val_rule="first:20")
    tokenizer = tokenizer or bytes_tokenizer()
    prepare_shards(source, tokenizer, folder, Clock({}), Work(shard_tokens=500), show=False)
    return folder


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("clean") / "shards")


@pytest.fixture
def folder(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "shards"))


def faults(folder: Path, documents: Path | None = None) -> dict[str, Check]:
    """Checks that found something."""
    checks = verify_folder(folder, documents, None, show=False)
    return {check.name: check for check in checks if check.faults}


def relabel(folder: Path) -> None:
    """Let the manifest say what the files now are, as if they had been made like this."""
    manifest = Manifest.load(folder)
    splits = {}
    for name in ("training", "validation"):
        split = getattr(manifest, name)
        shards = [
            replace(
                shard,
                tokens=File.of(folder, shard.tokens.path),
                sidecar=File.of(folder, shard.sidecar.path) if shard.sidecar else None,
            )
            for shard in split.shards
        ]
        splits[name] = replace(split, shards=shards)
    replace(manifest, **splits).save(folder)
    save_block_sums(folder, Manifest.load(folder))


def change(path: Path, edit: Callable[[np.ndarray], object]) -> None:
    values = read_shard(path).copy()
    edit(values)
    write_shard(path, values)


def test_clean_folders_pass(folder: Path) -> None:
    assert not faults(folder)
    shutil.rmtree(folder / "documents")  # compared with the decoded text then
    checks = {c.name: c for c in verify_folder(folder, None, None, show=False)}
    assert not any(check.faults or check.skipped for check in checks.values())
    num_bytes = sum(len(text.encode()) for text in TEXTS[:20])
    assert checks["bytes"].about == f"{num_bytes:,} in sidecars, {num_bytes:,} in its decoded text"


@pytest.mark.parametrize("name", ["train_000001.bin", "val_000001.bin", "val_bytes_000000.bin"])
def test_a_flipped_byte_is_named_with_its_block(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[HEADER_BYTES + 77] ^= 1
    (folder / name).write_bytes(data)
    (fault,) = faults(folder)["sha256"].faults
    assert fault.file == str(folder / name) and fault.offset == 0
    assert "differs within the 65536 bytes from there" in fault.what and "copy" in fault.remedy


def test_with_the_documents_a_flipped_byte_is_found_exactly(folder: Path) -> None:
    change(folder / "val_000001.bin", lambda ids: ids.__setitem__(41, (ids[41] + 1) % 200))
    (fault,) = faults(folder)["bytes"].faults
    assert (fault.file, fault.offset) == (str(folder / "val_000001.bin"), HEADER_BYTES + 2 * 41)
    (folder / "blocks.json").unlink()
    (fault,) = faults(folder)["sha256"].faults  # older folders: without the block
    assert fault.offset == 0 and "differs" not in fault.what


@pytest.mark.parametrize("name", ["train_000002.bin", "val_000000.bin", "val_bytes_000000.bin"])
@pytest.mark.parametrize("length", [0, 100, HEADER_BYTES + 300])
def test_a_truncated_file_is_named_with_its_end(folder: Path, name: str, length: int) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:length])
    (fault,) = faults(folder)["files"].faults
    assert (fault.file, fault.offset) == (str(path), length)
    assert str(length) in fault.what and fault.remedy


@pytest.mark.parametrize("name", ["train_000001.bin", "val_000000.bin", "val_bytes_000001.bin"])
def test_a_missing_shard_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (fault,) = faults(folder)["files"].faults
    assert fault.file == str(folder / name) and "missing" in fault.what
    assert "put it back" in fault.remedy


def swap(folder: Path, name: str, other: str) -> None:
    (folder / name).rename(folder / "aside")
    (folder / other).rename(folder / name)
    (folder / "aside").rename(folder / other)


def test_swapped_sidecars_are_named(folder: Path) -> None:
    swap(folder, "val_bytes_000000.bin", "val_bytes_000001.bin")
    found = faults(folder)
    assert {Path(f.file).name for f in found["sha256"].faults} == {
        "val_bytes_000000.bin",
        "val_bytes_000001.bin",
    }
    relabel(folder)
    found = faults(folder)
    assert list(found) == ["bytes"]
    assert Path(found["bytes"].faults[0].file).name == "val_bytes_000000.bin"
    shutil.rmtree(folder / "documents")
    assert list(faults(folder)) == ["bytes"]


def test_a_wrong_tokenizer_is_named(folder: Path) -> None:
    BytesTokenizer(vocab_size=272).save(folder / "tokenizer")
    checks = verify_folder(folder, None, None, show=False)
    (check,) = (check for check in checks if check.faults)
    (fault,) = check.faults
    assert check.name == "tokenizer" and fault.file.endswith("tokenizer.json")
    assert "another tokenizer (272 ids" in fault.what and "put that one back" in fault.remedy
    assert [c.name for c in checks if c.skipped] == TOKENS
    shutil.rmtree(folder / "tokenizer")
    assert "no such file" in faults(folder)["tokenizer"].faults[0].what


def test_a_document_in_both_splits_is_named(folder: Path) -> None:
    # The last training shard, which is not full, gets a validation document at its end.
    path = sorted(folder.glob("train_*.bin"))[-1]
    ids, document = read_shard(path).copy(), [BOS, *TEXTS[7].encode()]
    write_shard(path, np.concatenate([ids, document]))
    relabel(folder)
    found = faults(folder)
    (fault,) = found["disjoint"].faults
    assert (fault.file, fault.offset) == (str(path), HEADER_BYTES + 2 * len(ids))
    before = sum(1 + len(text.encode()) for text in TEXTS[:7])
    other, place = f"val_{before // 500:06d}.bin", HEADER_BYTES + 2 * (before % 500)
    assert f"in validation, too ({other}, byte {place})" in fault.what
    assert "prepare again" in fault.remedy
    assert "41 BOS from here on, but manifest.json says 40" in found["documents"].faults[0].what


def test_ids_and_bos_out_of_place_are_named(folder: Path) -> None:
    change(folder / "train_000001.bin", lambda ids: ids.__setitem__(33, 264))
    change(folder / "val_000000.bin", lambda ids: ids.__setitem__(0, 65))
    relabel(folder)
    found = faults(folder)
    (fault,) = found["ids"].faults
    assert (Path(fault.file).name, fault.offset) == ("train_000001.bin", HEADER_BYTES + 66)
    assert "token id 264 is outside the vocabulary of 264" in fault.what
    first, count = found["documents"].faults
    assert (Path(first.file).name, first.offset) == ("val_000000.bin", HEADER_BYTES)
    assert "the first token is 65, not BOS (256)" in first.what
    assert "19 BOS from here on" in count.what


def test_other_documents_are_named(folder: Path, tmp_path: Path) -> None:
    few = write_jsonl(tmp_path / "few.jsonl", TEXTS[:19])
    (fault,) = faults(folder, few)["bytes"].faults
    assert "few.jsonl ends before this document" in fault.what
    others = write_jsonl(tmp_path / "others.jsonl", TEXTS[1:])
    check = faults(folder, others)["bytes"]
    assert check.num_faults == 20 and len(check.faults) == 5
    assert "not the token that the tokenizer gives" in check.faults[0].what
    assert not faults(folder, write_jsonl(tmp_path / "more.jsonl", TEXTS))


def test_wrong_counts_are_found_even_where_the_tokenizer_makes_them(folder: Path) -> None:
    """All sidecars counted twice: the sum is not that of the text."""
    for path in folder.glob("val_bytes_*.bin"):
        change(path, lambda counts: counts.__imul__(2))
    relabel(folder)
    assert "2 bytes for a token of 1" in faults(folder)["bytes"].faults[0].what


def test_a_tokenizer_that_loses_text_is_judged_by_agreement(tmp_path: Path) -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices("aeinorst", k=rng.randint(1, 9))) for _ in range(80)]
    texts = [f"{i}  {' '.join(rng.choices(words, k=60))}" for i in range(60)]
    folder = make(tmp_path / "shards", CaseOpsTokenizer(vocab_size=450), texts)
    roundtrip = Manifest.load(folder).roundtrip
    assert roundtrip is not None and roundtrip["exact"] < roundtrip["documents"]
    assert not faults(folder)
    shutil.rmtree(folder / "documents")
    assert not faults(folder)
    swap(folder, "val_bytes_000000.bin", "val_bytes_000001.bin")
    swap(folder, "val_bytes_000002.bin", "val_bytes_000003.bin")
    relabel(folder)
    check = faults(folder)["bytes"]
    assert [Path(fault.file).name for fault in check.faults] == [
        f"val_bytes_{i:06d}.bin" for i in range(4)
    ]
    assert "this is not the sidecar of these tokens" in check.faults[0].what


def test_published_folders_are_checked_with_a_given_tokenizer(tmp_path: Path) -> None:
    ids, counts = [BOS, 65, 66, BOS, 67], [0, 1, 1, 0, 1]
    write_shard(tmp_path / "fineweb_train_000000.bin", [BOS, 70, 71, BOS, 67])
    write_shard(tmp_path / "fineweb_val_000000.bin", ids)
    write_shard(tmp_path / "fineweb_val_bytes_000000.bin", counts)
    checks = verify_folder(tmp_path, None, None, show=False)
    assert not any(check.faults for check in checks)
    assert [check.name for check in checks if check.skipped] == ["sha256", "tokenizer", *TOKENS]
    assert "give tokenizer=NAME" in checks[3].about
    checks = verify_folder(tmp_path, None, bytes_tokenizer(), show=False)
    (check,) = (check for check in checks if check.faults)
    assert check.name == "disjoint" and check.faults[0].offset == HEADER_BYTES + 2 * 3
    (tmp_path / "fineweb_val_bytes_000000.bin").unlink()
    checks = verify_folder(tmp_path, None, bytes_tokenizer(), show=False)
    assert any("no byte sidecars" in check.about for check in checks if check.skipped)
    (tmp_path / "fineweb_val_000000.bin").unlink()
    (check,) = verify_folder(tmp_path, None, None, show=False)
    assert "no validation shards" in check.faults[0].what


@pytest.mark.parametrize("cut", [False, True])
def test_damaged_documents_are_named_and_not_the_shards(folder: Path, cut: bool) -> None:
    path = folder / "documents" / "validation.jsonl.zst"
    data = path.read_bytes()
    flipped = data[:40] + bytes([data[40] ^ 4]) + data[41:]
    path.write_bytes(data[:-20] if cut else flipped)
    found = faults(folder)
    assert list(found) == ["sha256"]  # the tokens are compared with their own text
    (fault,) = found["sha256"].faults
    assert fault.file == str(path) and "not what was prepared" in fault.what
    (folder / "blocks.json").unlink()  # older folders
    if cut:
        (fault,) = faults(folder)["bytes"].faults
        assert fault.file == str(path) and "prepare again" in fault.remedy


@pytest.mark.parametrize("length", [None, 1300])
def test_a_lost_sidecar_is_one_fault(folder: Path, length: int | None) -> None:
    path = folder / "val_bytes_000001.bin"
    content = path.read_bytes()
    path.unlink()
    if length is not None:
        path.write_bytes(content[:length])
    found = faults(folder)
    assert list(found) == ["files"] and found["files"].num_faults == 1


def test_a_sidecar_of_another_length_is_named(folder: Path) -> None:
    write_shard(folder / "val_bytes_000001.bin", [1, 1, 1])
    relabel(folder)
    (fault,) = faults(folder)["bytes"].faults
    assert Path(fault.file).name == "val_bytes_000001.bin" and "its length" in fault.what


def test_an_id_outside_the_vocabulary_stops_no_check(tmp_path: Path) -> None:
    """SentencePiece refuses to decode it."""
    folder = make(tmp_path / "shards", CaseOpsTokenizer(vocab_size=350), TEXTS * 2)
    change(folder / "val_000000.bin", lambda ids: ids.__setitem__(3, 60_000))
    relabel(folder)
    for documents in (folder / "documents", None):
        if documents is None:
            shutil.rmtree(folder / "documents")
        (fault,) = faults(folder)["ids"].faults
        assert (Path(fault.file).name, fault.offset) == ("val_000000.bin", HEADER_BYTES + 6)
        assert "token id 60000 is outside the vocabulary of 350" in fault.what


def test_another_given_tokenizer_is_a_fault(folder: Path) -> None:
    checks = verify_folder(folder, None, bytes_tokenizer(), show=False)
    assert not any(check.faults for check in checks)
    checks = verify_folder(folder, None, BytesTokenizer(vocab_size=300), show=False)
    (check,) = (check for check in checks if check.faults)
    assert check.name == "tokenizer" and not any(c.skipped for c in checks)
    assert "names another one (300 ids" in check.faults[0].what
    assert "leave tokenizer=... out" in check.faults[0].remedy


def test_the_command_shows_a_line_a_check_and_fails(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "verify", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        [name, "ok"]
        for name in (
            *("manifest", "files", "sha256", "tokenizer", "ids", "documents", "bytes"),
            "disjoint",
        )
    ]
    (folder / "val_000001.bin").unlink()
    assert main(["data", "verify", str(folder), "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert not answer["ok"]
    assert [c["name"] for c in answer["checks"] if c["ok"] is None] == ["bytes"]
    assert main(["data", "verify", str(folder)]) == 2
    shown = capsys.readouterr().out
    assert f"{folder / 'val_000001.bin'}, byte 0: the file is missing: put it back" in shown
    assert main(["data", "verify", str(folder / "nothing")]) == 2
    assert main(["data", "verify", str(folder), "--documents", str(folder / "no.txt")]) == 2


@given(st.lists(st.lists(st.integers(0, 3), max_size=12), max_size=5))
def test_documents_and_places_are_those_of_the_joined_shards(shards: list[list[int]]) -> None:
    """Against the same with lists: BOS is 0, shards cut anywhere."""
    arrays = [np.array(shard, np.uint16) for shard in shards]
    paths = [Path(str(index)) for index in range(len(shards))]
    files = Files(paths, arrays, [], None, True)
    joined = [(token, shard, i) for shard, ids in enumerate(shards) for i, token in enumerate(ids)]
    starts = [position for position, (token, _, _) in enumerate(joined) if token == 0]
    expected = [range(a + 1, b) for a, b in zip(starts, [*starts[1:], len(joined)], strict=False)]
    found = list(split_documents(files, 0))
    assert found == expected
    for document in found:
        pieces = [piece for piece in files.pieces(document) if len(piece)]
        ids = [int(token) for piece in pieces for token in piece]
        assert ids == [joined[position][0] for position in document]
    for position, (_, shard, index) in enumerate(joined):
        assert files.place(position) == (Path(str(shard)), HEADER_BYTES + 2 * index)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 3 * BLOCK_BYTES))
def test_the_damaged_block_holds_the_flipped_byte(
    tmp_path_factory: pytest.TempPathFactory, place: int
) -> None:
    folder = tmp_path_factory.mktemp("blocks")
    data = bytearray(np.random.default_rng(0).bytes(3 * BLOCK_BYTES + 1))
    (folder / "a.bin").write_bytes(data)
    manifest = Manifest.load(make_manifest(folder))
    save_block_sums(folder, manifest)
    assert damaged_block(folder, "a.bin") is None
    data[place] ^= 128
    (folder / "a.bin").write_bytes(data)
    block = damaged_block(folder, "a.bin")
    assert block is not None and place in block


def make_manifest(folder: Path) -> Path:
    """A manifest of the one file a.bin."""
    from pgolf.data.manifest import Shard, Split

    split = Split([Shard(File.of(folder, "a.bin"), None, 0, 0)])
    Manifest("", 0, split, Split(), None, "", 0, 0, None).save(folder)
    return folder
