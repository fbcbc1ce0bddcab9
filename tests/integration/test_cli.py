"""The pgolf command on a finished run: each answer is one line of JSON, and true."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pgolf.result import validate_result
from tests.integration.command import Done, Workspace, write_text

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["caseops", "caseops_lossless", "sp", "bytes"])
def test_roundtrip_counts_documents_bytes_and_exact_ones(
    workspace: Workspace, tmp_path: Path, name: str
) -> None:
    path = write_text(tmp_path / "text.jsonl", num_documents=50)
    texts = [json.loads(line)["text"] for line in path.read_text("utf-8").splitlines()]
    answer = workspace.answer("data", "roundtrip", path, f"tokenizer={name}")
    lossless = name in ("bytes", "caseops_lossless")
    assert answer["documents"] == 50 and answer["exact"] == (50 if lossless else 0)
    num_bytes = sum(len(text.encode("utf-8")) for text in texts)
    blank = 0 if lossless else 50  # the new line at each end is counted by no token
    assert num_bytes - blank <= answer["bytes"] <= num_bytes
    assert 0 < answer["tokens"] <= num_bytes + 50


def test_evaluate_gives_the_runs_score_again(workspace: Workspace, plain: Done) -> None:
    before = sorted(path.name for path in plain.folder.iterdir())
    answer = workspace.answer("evaluate", plain.folder)
    final = plain.result["bpb"]["final"]
    assert {key: answer[key] for key in ("bpb", "tokens", "bytes")} == {
        key: final[key] for key in ("bpb", "tokens", "bytes")
    }
    assert sorted(path.name for path in plain.folder.iterdir()) == before


def test_evaluate_takes_other_values_of_hardware_and_eval(
    workspace: Workspace, plain: Done
) -> None:
    final = plain.result["bpb"]["final"]
    other = workspace.answer(
        "evaluate", plain.folder, "eval.stride=64", "hardware=cpu", "hardware.kernels=plain"
    )
    assert other["tokens"] == final["tokens"] and other["bytes"] == final["bytes"]
    assert other["bpb"] > final["bpb"]  # less context for each token
    for wrong, remedy in (
        ("model.vocab_size=5", "only hardware=OPTION, hardware.KEY=VALUE, eval.KEY=VALUE"),
        ("eval=standard", "only hardware=OPTION"),
        ("hardware=gpu", "expected one of auto, cpu, h100x1"),
        ("eval.strid=5", "did you mean stride"),
        ("hardware.kernels=fast", "Literal"),
    ):
        failed = workspace.pgolf("evaluate", plain.folder, wrong)
        assert failed.code == 2 and remedy in failed.text


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_reader_that_stops_reading_sees_no_error(tmp_path: Path, form: list[str]) -> None:
    path = write_text(tmp_path / "text.jsonl", num_documents=20)
    closed, write_end = os.pipe()
    os.close(closed)
    command = [sys.executable, "-m", "pgolf.cli", "data", "roundtrip", path, "tokenizer=bytes"]
    done = subprocess.run(
        [*command, *form],
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    os.close(write_end)
    assert done.returncode == 0 and "Traceback" not in done.stderr and "Broken" not in done.stderr


def test_inspect_accounts_for_every_byte(workspace: Workspace, plain: Done) -> None:
    answer = workspace.answer("inspect", plain.folder)
    sizes = plain.result["artifact"]
    assert {name: answer[name] for name in sizes if name != "limit"} == {
        name: value for name, value in sizes.items() if name != "limit"
    }
    assert answer["limit_bytes"] == sizes["limit"]
    encoded = sum(stream["encoded_bytes"] for stream in answer["streams"])
    assert answer["header_bytes"] + encoded == answer["model_bytes"]
    assert sum(tensor["elements"] for tensor in answer["tensors"]) == answer["parameters"]
    assert plain.events("model")[0]["parameters"] == answer["parameters"]
    assert {tensor["bits"] for tensor in answer["tensors"]} == {6, 8, 16}


def test_inspect_shows_tables_to_people(workspace: Workspace, plain: Done) -> None:
    shown = workspace.pgolf("inspect", plain.folder / "artifact" / "model.pgolf").stdout
    assert "raw_bytes" in shown and "encoded_bytes" in shown and "{'" not in shown
    assert f"{plain.result['artifact']['model_bytes']:,}" in shown


def test_compare_puts_runs_beside_each_other(
    workspace: Workspace, first: Done, plain: Done
) -> None:
    answer = workspace.answer("compare", first.folder, plain.folder)
    assert [run["run_id"] for run in answer["runs"]] == [first.folder.name, plain.folder.name]
    for run in answer["runs"]:
        validate_result(run)
    shown = workspace.pgolf("compare", first.folder, plain.folder).stdout
    assert f"{plain.result['bpb']['final']['bpb']:.4f}" in shown and "ttt=none" in shown


def test_report_is_written_again(workspace: Workspace, plain: Done, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(plain.folder, tmp_path / "run"))
    (copy / "report.html").unlink()
    assert workspace.answer("report", copy) == {"report": str(copy / "report.html")}
    assert f"{plain.result['bpb']['final']['bpb']:.4f}" in (copy / "report.html").read_text()


def test_doctor_says_what_a_run_would_find(workspace: Workspace) -> None:
    answer = workspace.answer("doctor")
    assert answer["python"] == ".".join(map(str, sys.version_info[:3]))
    assert answer["settled"]["device"] in ("cpu", "cuda") and answer["attention"]
    assert answer["cache"] == str(workspace.cache) and "torch" in answer["packages"]


def test_a_wrong_command_ends_with_2(workspace: Workspace, tmp_path: Path) -> None:
    for arguments in (["nothing"], ["data", "roundtrip"], ["data", "roundtrip", "/nowhere.txt"]):
        done = workspace.pgolf(*arguments)
        assert done.code == 2 and "Traceback" not in done.text, done.text
    (tmp_path / "x.txt").write_text("text")
    done = workspace.pgolf("data", "roundtrip", tmp_path / "x.txt", "tokenizer=nothing")
    assert done.code == 2 and "tokenizer/nothing" in done.stderr
