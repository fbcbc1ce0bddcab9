"""Evaluation workers are held: what they may open, what the run says of it, and two of them."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pgolf.config import load_config
from pgolf.data.view import validation_view
from pgolf.errors import RunFailed
from pgolf.hardware import Devices
from pgolf.jobs import evaluate_job
from pgolf.launchers import run_held
from pgolf.sandbox import start
from pgolf.sandbox.enter import NOT_ENFORCED
from pgolf.sandbox.evaluation import hidden_of
from pgolf.shipped import CODE_FILE
from tests.integration.command import Done, Workspace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the layers are those of Linux"),
]


EVALUATOR = """
_as_shipped = SlidingEvaluator.evaluate
def evaluate(*arguments):
    {}
    return _as_shipped(*arguments)
SlidingEvaluator.evaluate = evaluate
"""


@pytest.fixture
def job(workspace: Workspace, plain: Done, tmp_path: Path) -> dict[str, Any]:
    """The evaluate job of a finished run, with its artifact in another place."""
    shards = plain.shards
    validation_view(shards, tmp_path / "validation")
    artifact = Path(shutil.copytree(plain.folder / "artifact", tmp_path / "artifact"))
    (tmp_path / "run" / "work").mkdir(parents=True)
    shutil.copy(plain.folder / "config.yaml", tmp_path / "run")
    config, cache = load_config(plain.folder), workspace.cache
    return evaluate_job(
        config, Devices("cpu", 1, "fp32", "auto", False, 1), run_folder=tmp_path / "run",
        cache=cache, artifact=artifact, validation=tmp_path / "validation",
        tokenizer_fingerprint=None, bos_id=256, output=tmp_path / "run" / "work" / "scores.json",
        sandbox=hidden_of(config, cache, shards, cache / "documents"),
    )  # fmt: skip


def evaluate(job: dict[str, Any], num_workers: int = 1) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scores, and the layers that held the workers."""
    devices = Devices("cpu", num_workers, "fp32", "auto", False, 1)
    order = Path(job["output"]).with_name("evaluate.json")
    order.write_text(json.dumps({**job, "devices": devices.as_dict()}))
    held = run_held(order, devices, str(Path(job["artifact"]) / CODE_FILE))
    return json.loads(Path(job["output"]).read_text()), held


def add_to_evaluator(job: dict[str, Any], code: str) -> None:
    """Ship an evaluator that runs some code before it scores."""
    code = EVALUATOR.format(code)
    path = Path(job["artifact"]) / CODE_FILE
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    path.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            added = f"\n{code}\n" if name == "pgolf/eval/sliding.py" else ""
            archive.writestr(name, text + added)


def training_shard(job: dict[str, Any]) -> Path:
    found = sorted(Path(job["sandbox"]["canary"]).parent.glob("train_*.bin"))
    assert found
    return found[0]


def test_a_run_says_what_held_its_evaluation(plain: Done) -> None:
    held = plain.result["provenance"]["sandbox"]
    assert held["filesystem"] in ("landlock", "audit hook", NOT_ENFORCED)
    line = f"training data closed: {held['filesystem']}; network closed: {held['network']}"
    assert line in plain.stdout and line in (plain.folder / "report.html").read_text()
    assert plain.events("sandbox")[0]["filesystem"] == held["filesystem"]


def test_without_a_sandbox_the_run_says_so(workspace: Workspace, plain: Done) -> None:
    free = workspace.launch("ttt=none", "sandbox=off")
    held = free.result["provenance"]["sandbox"]
    assert (held["filesystem"], held["network"]) == (NOT_ENFORCED, NOT_ENFORCED)
    assert "training data closed: not enforced; network closed: not enforced" in free.stdout
    assert free.result["bpb"]["final"]["nats"] == plain.result["bpb"]["final"]["nats"]
    assert free.result["config_hash"] == plain.result["config_hash"]


@pytest.mark.parametrize("layers", [start.LAYERS, ("audit hook",)])
def test_two_workers_in_a_sandbox_give_the_score(
    plain: Done, job: dict[str, Any], layers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "LAYERS", layers)
    scores, held = evaluate(job, num_workers=2)
    assert held["filesystem"] in layers and held["network"] in layers
    assert scores["final"]["nats"] == pytest.approx(plain.result["bpb"]["final"]["nats"], 1e-6)


def test_an_evaluation_that_opens_training_text_fails_and_names_it(
    job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = training_shard(job)
    add_to_evaluator(job, f"open({str(shard)!r}, 'rb')")
    for layers in (start.LAYERS, ("audit hook",)):
        monkeypatch.setattr(start, "LAYERS", layers)
        with pytest.raises(RunFailed) as caught:
            evaluate(job)
        assert f"the evaluation may not open {shard}" in str(caught.value)
        assert "stage" in str(caught.value) and "log.txt" in str(caught.value)
    evaluate({**job, "sandbox": None})  # nothing but the sandbox refuses it


def test_an_evaluation_that_asks_the_network_fails(job: dict[str, Any]) -> None:
    call = "import socket; socket.socket().connect(('192.0.2.1', 9))"
    add_to_evaluator(job, call)
    with pytest.raises(RunFailed, match=r"unreachable|may not open a connection"):
        evaluate(job)


def test_an_evaluation_cannot_change_what_is_shipped(job: dict[str, Any]) -> None:
    model = Path(job["artifact"]) / "model.pgolf"
    add_to_evaluator(job, f"open({str(model)!r}, 'ab')")
    with pytest.raises(RunFailed, match=r"may not open .*model\.pgolf"):
        evaluate(job)
