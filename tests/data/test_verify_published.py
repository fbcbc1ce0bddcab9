"""Verification of published folders: hub.json, numbers, headers, and the given tokenizer."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pgolf.cli import main
from pgolf.data.agreement import compare_samples
from pgolf.data.faults import Check, Fault
from pgolf.data.hub_record import RECORD
from pgolf.data.shards import HEADER_BYTES
from pgolf.data.tokenize import encode_chunk
from pgolf.data.verify import verify_folder
from pgolf.protocols import Tokenizer
from pgolf.tokenizer.caseops import CaseOpsTokenizer
from pgolf.tokenizer.sp import SentencePieceTokenizer
from tests.data.hub_server import HubServer
from tests.data.hub_sets import MODEL, SET, TRAIN, VAL, source_of
from tests.data.samples import TEXTS, bytes_tokenizer, write_jsonl, write_shard
from tests.reference import require_reference

# Without white space that a normaliser folds: these texts are short and would have too much of it.
FLAT = [" ".join(text.split()) for text in TEXTS]
AGAIN = "run `pgolf data get a_set --shards 4 --to "


def faults(folder: Path, tokenizer: Tokenizer | None = None) -> dict[str, list[Fault]]:
    checks = verify_folder(folder, None, tokenizer, show=False)
    return {check.name: check.faults for check in checks if check.faults}


def by_name(folder: Path, tokenizer: Tokenizer | None = None) -> dict[str, Check]:
    return {c.name: c for c in verify_folder(folder, None, tokenizer, show=False)}


# -- compared with hub.json ----------------------------------------------------------------------


@pytest.fixture
def folder(server: HubServer, tmp_path: Path) -> Path:
    source_of(tmp_path / "set").download(show=False)
    server.close()
    return tmp_path / "set"


def test_a_whole_download_passes(folder: Path) -> None:
    checks = by_name(folder, bytes_tokenizer())
    assert not any(check.faults or check.skipped for check in checks.values())
    assert checks["sha256"].about == f"{len(SET)} files that {RECORD} lists"


@pytest.mark.parametrize("name", [TRAIN, VAL, MODEL])
def test_a_changed_file_is_named_even_with_its_old_time(folder: Path, name: str) -> None:
    path = folder / name
    facts, data = path.stat(), path.read_bytes()
    path.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    found = faults(folder)
    (fault,) = found["sha256"]
    assert list(found) == ["sha256"] and fault.file == str(path)
    assert "hash" in fault.what or "sha256" in fault.what
    assert fault.remedy == f"{AGAIN}{folder}`"


@pytest.mark.parametrize("name", [MODEL, *SET[1:]])
def test_a_listed_file_that_is_missing_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    found = faults(folder, bytes_tokenizer())
    (fault,) = found["files"]
    assert list(found) == ["files"]
    assert fault.file == str(folder / name) and AGAIN in fault.remedy


def test_a_truncated_file_is_named_with_its_end(folder: Path) -> None:
    for name, length in ((TRAIN, HEADER_BYTES + 10), (MODEL, 3)):
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(content[:length])
        (fault,) = faults(folder)["files"]
        assert (fault.file, fault.offset) == (str(path), length)
        path.write_bytes(content)


def test_a_folder_of_published_documents_is_compared(folder: Path) -> None:
    for name in SET[1:]:
        (folder / name).unlink()
    values = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    values["files"] = {MODEL: values["files"][MODEL]}
    (folder / RECORD).write_text(json.dumps(values), encoding="utf-8")
    assert [check.name for check in verify_folder(folder, None, None, False)] == [
        *("manifest", "files", "sha256"),
    ]
    (folder / MODEL).write_bytes(b"b model")
    assert "git hash" in faults(folder)["sha256"][0].what
    (folder / RECORD).write_text("{", encoding="utf-8")
    assert RECORD in faults(folder)["manifest"][0].file


# -- without hub.json ----------------------------------------------------------------------------


def write_set(folder: Path, tokenizer: Tokenizer, texts: list[str], sidecar: bool = True) -> Path:
    """Two shards each for training and validation."""
    folder.mkdir(exist_ok=True)
    quarters = np.array_split(np.array(texts, dtype=object), 4)
    for number, part in enumerate(quarters):
        encoded = encode_chunk(tokenizer, False, list(part))
        kind, index = ("train", "val")[number % 2], f"{number // 2:06d}.bin"
        write_shard(folder / f"fineweb_{kind}_{index}", encoded.ids)
        if kind == "val" and sidecar:
            write_shard(folder / f"fineweb_val_bytes_{index}", encoded.raw_bytes)
    return folder


@pytest.mark.parametrize("name", ["train_000000", "val_000000", "val_bytes_000000"])
def test_a_gap_in_the_numbers_is_the_missing_file(tmp_path: Path, name: str) -> None:
    folder = write_set(tmp_path / "set", bytes_tokenizer(), TEXTS)
    path = folder / f"fineweb_{name}.bin"
    path.unlink()
    found = faults(folder, bytes_tokenizer())
    (fault,) = found["files"]
    assert list(found) == ["files"]
    assert (fault.file, fault.offset) == (str(path), 0) and "missing" in fault.what
    assert f"pgolf data get NAME --to {folder}" in fault.remedy


def test_a_truncated_shard_is_named_itself(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", bytes_tokenizer(), TEXTS)
    path = folder / "fineweb_val_000001.bin"
    path.write_bytes(path.read_bytes()[:-2])
    found = faults(folder, bytes_tokenizer())
    assert list(found) == ["files"]
    assert (found["files"][0].file, found["files"][0].offset) == (str(path), path.stat().st_size)
    assert "pgolf data get" in found["files"][0].remedy


# -- the tokenizer -------------------------------------------------------------------------------


def trained(kind: type, vocab_size: int) -> Tokenizer:
    tokenizer = kind(vocab_size=vocab_size)
    tokenizer.fit(FLAT)
    return tokenizer  # type: ignore[no-any-return]


@pytest.mark.parametrize("sidecar", [True, False])
def test_a_wrong_tokenizer_is_one_fault(tmp_path: Path, sidecar: bool) -> None:
    right, wrong = trained(SentencePieceTokenizer, 320), trained(CaseOpsTokenizer, 330)
    folder = write_set(tmp_path / "set", right, FLAT, sidecar)
    checks = by_name(folder, right)
    assert not any(check.faults for check in checks.values())
    found = faults(folder, wrong)
    (fault,) = found["tokenizer"]
    assert list(found) == ["tokenizer"] and "wrong tokenizer: only 0 of" in fault.what
    assert "give the tokenizer that made these shards" in fault.remedy


def test_one_shard_of_another_tokenizer_is_named(tmp_path: Path) -> None:
    right, wrong = trained(CaseOpsTokenizer, 330), trained(SentencePieceTokenizer, 320)
    folder = write_set(tmp_path / "set", right, FLAT)
    path = folder / "fineweb_train_000001.bin"
    write_shard(path, encode_chunk(wrong, False, FLAT[:15]).ids)
    (fault,) = faults(folder, right)["tokenizer"]
    assert fault.file == str(path) and "another tokenizer than the other shards" in fault.what


def test_published_models_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every published tokenizer on shards of every other, by real FineWeb documents."""
    shared = require_reference()
    models = {
        "caseops": "fineweb_8192_bpe_caseops",
        "sp": "fineweb_8192_bpe",
        "sp of caseops": "fineweb_8192_bpe_caseops",
        "sp1024": "fineweb_1024_bpe",
    }
    with open(shared / "data" / "fineweb_verify_docs.jsonl", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    opened: dict[str, Tokenizer] = {}
    for name, model in models.items():
        kind = CaseOpsTokenizer if name == "caseops" else SentencePieceTokenizer
        path = str(shared / "tokenizers" / f"{model}.model")
        opened[name] = kind(vocab_size=1024 if "1024" in name else 8192, path=path)
        opened[name].fit([])
    for made in ("caseops", "sp", "sp1024"):
        encoded = encode_chunk(opened[made], False, texts)
        for name, tokenizer in opened.items():
            found = compare_samples(encoded.ids, encoded.raw_bytes, tokenizer)
            assert (found.fault() is None) == (name == made or not found.samples), (made, name)
            if name == made:
                assert found.same > 0.98 * found.samples
    folder = write_set(tmp_path / "set", opened["caseops"], texts[:40])
    model = f"tokenizer.path={shared / 'tokenizers' / 'fineweb_8192_bpe.model'}"
    assert main(["data", "verify", str(folder), "tokenizer=sp", model]) == 2
    assert "wrong tokenizer" in capsys.readouterr().out


def test_ids_outside_the_vocabulary_are_named_and_survived(tmp_path: Path) -> None:
    tokenizer = trained(SentencePieceTokenizer, 320)
    folder = write_set(tmp_path / "set", tokenizer, FLAT)
    path = folder / "fineweb_val_000000.bin"
    data = bytearray(path.read_bytes())
    data[HEADER_BYTES + 20 : HEADER_BYTES + 22] = b"\xff\xff"
    path.write_bytes(data)
    found = faults(folder, tokenizer)
    assert list(found) == ["ids"]
    assert (found["ids"][0].file, found["ids"][0].offset) == (str(path), HEADER_BYTES + 20)


def test_commands_name_options_and_want_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_set(tmp_path / "set", bytes_tokenizer(), TEXTS)
    assert main(["data", "verify", str(folder), "tokenizer=bytes", "scale.vocab_size=264"]) == 0
    assert main(["data", "verify", str(folder), "tokenizer=sp"]) == 2
    assert "tokenizer=sp names no model" in capsys.readouterr().err
    text = str(write_jsonl(tmp_path / "text.jsonl", TEXTS))
    assert main(["data", "report", text, "tokenizer=bytes", "scale.vocab_size=264"]) == 0
    assert "BytesTokenizer" not in capsys.readouterr().out
    bytes_ = ["tokenizer=bytes", "scale.vocab_size=264"]
    assert main(["data", "train-tokenizer", text, "-o", str(tmp_path / "out"), *bytes_]) == 2
    assert "tokenizer=bytes has no SentencePiece model" in capsys.readouterr().err
