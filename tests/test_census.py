"""Bytes by tensor: they add up, for codecs of bytes and of arrays, and people can read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgolf import cli
from pgolf.artifact import read_artifact, write_artifact
from pgolf.census import describe, tensor_rows
from pgolf.codec.ans_codec import AnsCodec
from pgolf.codec.pergroup_codec import PerGroupCodec
from pgolf.events import EventLog
from pgolf.quant.codes import Codes, IntTensor
from tests.artifact_files import (
    FAST,
    MODEL,
    RICH_CODES,
    SOME_CODES,
    random_tensor,
    rich_tensor,
    write,
)

BIG = Codes({
    "a": random_tensor((60, 50), 6, 0), "b": random_tensor((70,), None, 1),
    "c": random_tensor((40, 50), 4, 2), "d": random_tensor((0, 5), 6, 3),
})  # fmt: skip


def test_description_adds_up(tmp_path: Path) -> None:
    file = write(tmp_path)
    found = describe(read_artifact(file))
    json.dumps(found)
    encoded = sum(stream["encoded_bytes"] for stream in found["streams"])
    assert found["header_bytes"] + encoded == found["total_bytes"] == file.stat().st_size
    assert found["parameters"] == 5 * 7 + 3 + 4 * 3 + 2 * 9
    raw = {stream["name"]: stream["raw_bytes"] for stream in found["streams"]}
    assert raw == {"codes6": 35 + 18, "codes8": 12, "fp16": 6, "scales": 2 * (5 + 4 + 2)}
    assert [(t["name"], t["kind"], t["bits"], t["elements"]) for t in found["tensors"]] == [
        ("a.weight", "codes", 6, 35), ("b", "fp16", 16, 3), ("c.weight", "codes", 8, 12),
        ("d.weight", "codes", 6, 18),
    ]  # fmt: skip
    assert [t["raw_bytes"] for t in found["tensors"]] == [27 + 10, 6, 12 + 8, 14 + 4]
    assert found["bits_per_parameter"] == pytest.approx(8 * found["total_bytes"] / 68)


@pytest.mark.parametrize("codec", [FAST, AnsCodec(), PerGroupCodec()], ids=lambda c: c.name)
def test_tensors_account_for_what_was_encoded(codec: Any, tmp_path: Path) -> None:
    written = write_artifact(tmp_path, MODEL, BIG, codec, "f")
    read = read_artifact(tmp_path)
    for artifact in (written, read):
        rows = tensor_rows(artifact)
        streams = sum(sum(stream.chunk_bytes) for stream in artifact.streams)
        assert 0.85 * streams < sum(row["encoded_bytes"] for row in rows) <= streams
        assert rows[3]["encoded_bytes"] == rows[3]["entropy_bytes"] == 0
    assert describe(written)["streams"] == describe(read)["streams"]
    assert (written.file_bytes, written.format_version) == (read.file_bytes, read.format_version)


def test_entropy_is_that_of_the_counts(tmp_path: Path) -> None:
    rows = tensor_rows(write_artifact(tmp_path, MODEL, BIG, FAST, "f"))
    codes = BIG.tensors["a"]
    assert isinstance(codes, IntTensor)
    share = np.unique(codes.codes.numpy(), return_counts=True)[1] / 3000
    assert rows[0]["entropy_bytes"] == round(-float((share * np.log2(share)).sum()) * 3000 / 8)
    assert rows[1]["entropy_bytes"] is None


@pytest.mark.parametrize("codec", [FAST, AnsCodec(), PerGroupCodec()], ids=lambda c: c.name)
def test_richer_representations_are_counted_and_named(codec: Any, tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path, MODEL, RICH_CODES, codec, "f")
    rows = tensor_rows(artifact)
    assert [row["kind"] for row in rows] == [
        "8 states, columns, rank 2 of 4 bits", "fp16", "codes, rank 3 of 3 bits",
        "codes, columns", "32 states", "codes, columns, rank 1 of 4 bits",
        "codes, groups of 3",
    ]  # fmt: skip
    assert [row["raw_bytes"] for row in rows] == [
        27 + 10 + 7 + 5 + 10 + 7 + 4, 6, 12 + 8 + 5 + 8 + 4 + 6, 9 + 4 + 9, 5 + 6,
        27 + 12 + 3 + 12 + 5 + 2, 15 + 2 * 9,
    ]  # fmt: skip
    encoded = sum(sum(stream.chunk_bytes) for stream in artifact.streams)
    assert 0 < sum(row["encoded_bytes"] for row in rows) <= encoded
    tensor = RICH_CODES.tensors["d.weight"]
    assert isinstance(tensor, IntTensor)
    exponents = 9 * np.log2(9) / 8  # all different
    counts = np.unique(tensor.codes.numpy(), return_counts=True)[1] / 18
    entropy = -float((counts * np.log2(counts)).sum()) * 18 / 8 + exponents
    assert rows[3]["entropy_bytes"] == round(entropy)


def test_inspect_tells_bits_a_weight_with_all_scales(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = rich_tensor((40, 64), 4, 0, group_columns=16)
    file = write(tmp_path, Codes({"rows": random_tensor((40, 64), 4, 0), "groups": groups}))
    assert cli.main(["inspect", str(file)]) == 0
    found = capsys.readouterr().out.splitlines()
    shown = {line.split()[0]: line.split() for line in found if " x " in line}
    assert "with scales" in found[0] and "4.25" in shown["rows"] and "5.00" in shown["groups"]


def test_inspect_of_a_run_tells_the_losses_of_its_last_artifact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    written = write_artifact(folder, MODEL, SOME_CODES, FAST, "f")
    assert [row["loss"] for row in tensor_rows(written)] == [None] * 4
    log = EventLog(tmp_path / "events.jsonl")
    for losses in ({"a.weight": 0.5, "c.weight": 0.25}, {"a.weight": 0.001234}):
        log.emit("tensors", "pack", rows=tensor_rows(written, losses))
        log.emit("stage", "pack", status="done")
    assert cli.main(["inspect", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["tensors"]
    assert [row["loss"] for row in rows] == [0.001234, None, None, None]
    assert cli.main(["inspect", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "loss" in shown and "0.001234" in shown
    assert cli.main(["inspect", str(folder)]) == 0
    assert "loss" not in capsys.readouterr().out


def test_inspect_takes_a_file_its_folder_and_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run" / "artifact"
    folder.mkdir(parents=True)
    file = write(folder, SOME_CODES)
    answers = []
    for path in (file, folder, tmp_path / "run"):
        assert cli.main(["inspect", str(path), "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    size = file.stat().st_size
    assert answers[0] == answers[1] and answers[0]["limit_bytes"] == 16_000_000
    assert answers[2] == {**answers[0], "model_bytes": size, "code_bytes": 0}
    assert cli.main(["inspect", str(file)]) == 0
    shown = capsys.readouterr().out
    for word in ("a.weight", "5 x 7", "codes", "entropy", "of limit", "\ntotal_bytes", "\x1b"):
        assert (word in shown) == (word != "\x1b")
    assert cli.main(["inspect", str(tmp_path / "nothing")]) == 2
    assert "cannot be read" in capsys.readouterr().err
    write(folder, Codes({}))
    assert cli.main(["inspect", str(folder)]) == 0
