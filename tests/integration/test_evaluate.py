"""The evaluate job: it is given the artifact and validation text, and takes its code from there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgolf import workers
from pgolf.config import load_config
from pgolf.data.stream import TokenStream
from pgolf.data.view import validation_view
from pgolf.hardware import Devices
from pgolf.jobs import evaluate_job
from pgolf.shipped import CODE_FILE
from tests.integration.command import Done, Workspace

pytestmark = pytest.mark.slow
ONE = Devices("cpu", 1, "fp32", "auto", False, 1)
# Every file that the worker opens is written down: what Python opens, and what numpy maps.
TRACED = """
import json, os, runpy, sys
seen = []
sys.addaudithook(lambda event, args: seen.append(str(args[0])) if event == "open" else None)
goodbye = os._exit
os._exit = lambda code: (open(sys.argv[2], "w").write(json.dumps(seen)), goodbye(code))
sys.argv = [sys.argv[1], *sys.argv[1:]]
runpy.run_module("pgolf.worker", run_name="__main__")
"""


@pytest.fixture
def job(workspace: Workspace, plain: Done, tmp_path: Path) -> dict[str, Any]:
    """The job of a finished run, with its artifact in another place."""
    validation_view(plain.shards, tmp_path / "validation")
    artifact = Path(shutil.copytree(plain.folder / "artifact", tmp_path / "artifact"))
    (tmp_path / "run").mkdir()
    return evaluate_job(
        load_config(plain.folder), ONE, run_folder=tmp_path / "run", cache=tmp_path / "no-cache",
        artifact=artifact, validation=tmp_path / "validation", tokenizer_fingerprint=None,
        bos_id=256, output=tmp_path / "scores.json",
    )  # fmt: skip


def test_the_validation_view_holds_no_training_text(job: dict[str, Any]) -> None:
    view = Path(job["data_folder"])
    assert {path.name for path in view.iterdir()} == {
        "manifest.json", "val_000000.bin", "val_bytes_000000.bin",
    }  # fmt: skip
    manifest = (view / "manifest.json").read_text()
    assert "train_" not in manifest and str(Path(job["cache"]).parent / "cache") not in manifest


def test_the_worker_opens_shipped_code_and_validation_text_only(
    workspace: Workspace, plain: Done, job: dict[str, Any], tmp_path: Path
) -> None:
    order, trace = tmp_path / "job.json", tmp_path / "opened.json"
    order.write_text(json.dumps(job))
    code = Path(job["artifact"]) / CODE_FILE
    environment = workspace.environment(PYTHONPATH=str(code), PYTHONSAFEPATH="1")
    command = [sys.executable, "-P", "-c", TRACED, str(order), str(trace)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    opened = [Path(name) for name in json.loads(trace.read_text())]
    source = Path(workers.__file__).parent
    assert not [p for p in opened if p.is_relative_to(source) and p.suffix in (".py", ".pyc")]
    assert not [p for p in opened if p.name.startswith("train_")]
    assert not [p for p in opened if p.is_relative_to(workspace.cache)]
    assert any(p.name == "val_000000.bin" for p in opened)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["final"]["nats"] == plain.result["bpb"]["final"]["nats"]


def test_code_that_is_not_shipped_is_missed(
    workspace: Workspace, job: dict[str, Any], tmp_path: Path
) -> None:
    """The workers really run what lies in the artifact: without it they cannot start."""
    order = tmp_path / "job.json"
    order.write_text(json.dumps(job))
    (Path(job["artifact"]) / CODE_FILE).unlink()
    environment = workspace.environment(PYTHONPATH=str(Path(job["artifact"]) / CODE_FILE))
    command = [sys.executable, "-P", "-S", "-m", "pgolf.worker", str(order)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode != 0 and "pgolf" in done.stderr


def test_the_final_score_is_told_by_document(plain: Done) -> None:
    (event,) = plain.events("documents")
    ids = TokenStream.open_validation(plain.shards).ids
    documents = np.split(ids, np.flatnonzero(ids == 256)[1:])
    assert event["count"] + event["short"] == len(documents)
    assert event["count"] > 0 and sum(event["counts"]) == event["count"]
    for row in (*event["worst"], *event["median"], *event["best"]):
        text = bytes(documents[row["document"]][1:].astype(np.uint8).tolist())
        assert text.decode().startswith(row["text"]) and row["bytes"] == len(text)
        # The first token of the text is not scored.
        assert row["tokens"] == len(text) + (row["document"] > 0)
