"""Multirun: training once a seed, one failure stops nobody and is named, exit code 0 or 1."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from tests.integration.command import Done, Workspace

pytestmark = pytest.mark.slow


def outcomes(workspace: Workspace, name: str) -> list[dict[str, Any]]:
    """What each job of the sweep in outputs-NAME left, in order."""
    paths = sorted((workspace.folder / f"outputs-{name}").glob("sweeps/*/[0-9]*/outcome.json"))
    return [json.loads(path.read_text()) for path in paths]


def test_a_sweep_trains_once_a_seed(workspace: Workspace) -> None:
    done = workspace.launch("-m", "seed=1,2", "ttt.epochs=0,1", "out_dir=outputs-good")
    assert done.code == 0, done.text
    assert "4 of 4 jobs finished" in done.stdout
    found = outcomes(workspace, "good")
    for outcome, (seed, epochs) in zip(found, itertools.product((1, 2), (0, 1)), strict=True):
        assert {f"seed={seed}", f"ttt.epochs={epochs}"} <= set(outcome["overrides"])
    runs = [Done(0, "", f"run x in {o['run_folder']}", workspace.folder) for o in found]
    assert [("train" in run.stages("done")) for run in runs] == [True, False, True, False]
    assert [bool(run.losses()) for run in runs] == [True, False, True, False]
    assert [run.result["eligibility"]["eligible"] for run in runs] == [True, False] * 2
    assert len({run.result["bpb"]["final"]["nats"] for run in runs}) == 4
    assert len({run.result["config_hash"] for run in runs}) == 2  # seeds of two configurations
    for run in runs:
        assert f"{run.result['bpb']['final']['bpb']:.4f}" in done.stdout


def test_a_failed_job_stops_nobody_and_is_named(workspace: Workspace, plain: Done) -> None:
    """A width of 9 bits is found out by the quantizer, after training."""
    done = workspace.launch("-m", "ttt=none", "quant.bits=9,6", "out_dir=outputs-bad")
    assert done.code == 1 and "Traceback" not in done.text
    assert "1 of 2 jobs finished, 1 failed" in done.stdout
    assert "quant.bits=9" in done.stdout.partition("failed")[2]
    assert "expected 2 to 8" in done.stdout
    failed, finished = outcomes(workspace, "bad")
    assert "failed" in failed and "run_folder" in finished


def test_a_sweep_that_cannot_compose_does_not_begin(workspace: Workspace) -> None:
    done = workspace.launch("-m", "model=recurrent3,nothing", "out_dir=outputs-none")
    assert done.code == 2 and "model/nothing" in done.stderr and "Traceback" not in done.text
    assert not list((workspace.folder / "outputs-none").rglob("*.json"))
