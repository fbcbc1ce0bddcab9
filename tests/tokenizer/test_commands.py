"""`pgolf data roundtrip`, `report` and `train-tokenizer`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from pgolf.cli import main
from pgolf.tokenizer.caseops import CaseOpsTokenizer
from pgolf.tokenizer.store import open_tokenizer
from tests.tokenizer.corpus import documents


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    """The one line of JSON of a command that succeeds."""
    code = main([*map(str, words), "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    assert out.count("\n") == 1
    return found


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main([*map(str, words)]) == 2
    return capsys.readouterr().err


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents(30)))
    return path


@pytest.fixture
def model(caseops: CaseOpsTokenizer, tmp_path: Path) -> Path:
    caseops.save(tmp_path / "saved")
    return tmp_path / "saved" / "tokenizer.model"


def test_roundtrip_takes_a_given_models_vocabulary(
    capsys: pytest.CaptureFixture[str], text: Path, model: Path
) -> None:
    given = ("data", "roundtrip", text, "tokenizer=caseops", f"tokenizer.path={model}")
    found = answer(capsys, *given)
    assert found["documents"] == 30 and found["exact"] == 0
    assert found["bytes"] == found["counted_bytes"] == sum(len(t.encode()) for t in documents(30))
    assert "scale.vocab_size=512" in refusal(capsys, *given, "scale.vocab_size=600")


def test_roundtrip_of_bytes_needs_no_data(capsys: pytest.CaptureFixture[str], text: Path) -> None:
    found = answer(capsys, "data", "roundtrip", text, "tokenizer=bytes")
    assert found["exact"] == found["documents"] == 30 and found["tokens"] == found["bytes"]


@pytest.mark.slow
def test_roundtrip_of_a_tiny_file_trains_on_the_data(
    capsys: pytest.CaptureFixture[str],
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGOLF_CACHE", str(tmp_path / "cache"))
    tiny = tmp_path / "tiny.txt"
    tiny.write_text("x\n")
    data = ("data=local", f"data.path={text}", "scale.vocab_size=330")
    for _ in range(2):
        found = answer(capsys, "data", "roundtrip", tiny, "tokenizer=caseops_lossless", *data)
        assert (found["documents"], found["exact"], found["bytes"]) == (1, 1, 2)


def test_report_is_shown_and_written(
    capsys: pytest.CaptureFixture[str], text: Path, model: Path, tmp_path: Path
) -> None:
    page = tmp_path / "new" / "page.html"
    given = ("data", "report", text, "--html", page, "tokenizer=caseops", f"tokenizer.path={model}")
    found = answer(capsys, *given)
    assert found["html"] == str(page) and len(found["failures"]) == 5
    assert "0 of 30 documents come back exactly" in page.read_text()
    assert main([*map(str, given)]) == 0
    shown = capsys.readouterr().out
    assert "frequent pieces" in shown and "changed documents" in shown and "<TITLE>" in shown
    under_a_file = ("data", "report", text, "tokenizer=bytes", "--html", text / "page.html")
    assert "choose a writable folder" in refusal(capsys, *under_a_file)


def test_training_is_recorded(
    capsys: pytest.CaptureFixture[str], text: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "trained"
    command = ("data", "train-tokenizer", text, "-o", folder)
    given = (*command, "tokenizer=caseops_lossless", "scale.vocab_size=400")
    found = answer(capsys, *given)
    assert found["report"]["exact"] == 30 and found["trained_on"]["documents"] == 30
    record = json.loads((folder / "tokenizer.json").read_text())
    assert record["settings"]["vocab_size"] == 400 and record["training"]["documents"] == 30
    sha256 = hashlib.sha256(text.read_bytes()).hexdigest()
    assert [file["sha256"] for file in record["training"]["files"]] == [sha256]
    assert set(record["training"]["versions"]) == {"pgolf", "sentencepiece"}
    assert open_tokenizer(folder).fingerprint == record["fingerprint"]
    assert "holds a tokenizer already" in refusal(capsys, *given)
    model = f"tokenizer.path={folder / 'tokenizer.model'}"
    assert "trained already" in refusal(capsys, *given[:-1], model, "-o", tmp_path / "other")
    assert "caseops_lossless" in refusal(
        capsys, *command[:-1], tmp_path / "none", "tokenizer=bytes"
    )


def test_training_is_shown(capsys: pytest.CaptureFixture[str], text: Path, tmp_path: Path) -> None:
    folder = tmp_path / "trained"
    words = ("data", "train-tokenizer", text, "-o", folder, "tokenizer=sp", "scale.vocab_size=400")
    assert main([*map(str, words)]) == 0
    shown = capsys.readouterr().out
    assert f"tokenizer=sp tokenizer.path={folder / 'tokenizer.model'}" in shown
    assert "bytes_per_token" in shown
    (folder / "tokenizer.json").unlink()  # the model is what tokenizer.path names
    assert main([*map(str, words)]) == 2 and "holds a tokenizer" in capsys.readouterr().err
