"""Multirun: training once a seed, done cells skipped, failures named, no orphan, exit code 0 or 1.

One launcher after another runs the same cells; what has to hold does not depend on it.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.integration.command import Done, Workspace
from tests.integration.processes import Running

pytestmark = pytest.mark.slow
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
NEEDS = {"joblib": "joblib", "submitit_local": "submitit", "ray": "ray"}


def needed(launcher: str) -> None:
    if importlib.util.find_spec(NEEDS[launcher]) is None:
        pytest.skip(f"{NEEDS[launcher]} is not installed")


def run_folders(workspace: Workspace, name: str) -> list[Path]:
    """All run folders in outputs-NAME, the first one first."""
    found = (workspace.folder / f"outputs-{name}").glob("recurrent3-nano/*")
    return sorted(path for path in found if path.is_dir())


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
    assert "train: reused by 2 of 4" in done.stdout
    (summary,) = (workspace.folder / "outputs-good" / "sweeps").glob("*/sweep.json")
    written = json.loads(summary.read_text())
    assert written["reused"]["train"]["times"] == 2 and len(written["runs"]) == 4
    assert summary.with_name("comparison.html").stat().st_size > 10_000

    # The same cells again, in another order and with more of them: only the new one runs.
    again = workspace.launch("-m", "seed=2,1", "ttt.epochs=0", "out_dir=outputs-good")
    assert again.code == 0, again.text
    assert "2 of these were done before and skipped" in again.stdout
    assert len(run_folders(workspace, "good")) == 4
    anew = workspace.launch(
        "-m", "seed=1", "ttt.epochs=0", "out_dir=outputs-good",
        "hydra.callbacks.sweep.skip_done=false",
    )  # fmt: skip
    assert anew.code == 0 and "skipped" not in anew.stdout
    assert len(run_folders(workspace, "good")) == 5


def test_a_failed_job_stops_nobody_and_is_named(workspace: Workspace, plain: Done) -> None:
    """A width of 9 bits is found out by the quantizer."""
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


@pytest.mark.parametrize("launcher", NEEDS)
def test_jobs_at_the_same_time_train_once(workspace: Workspace, launcher: str) -> None:
    """Two cells that differ after training: the second waits for the first one's result."""
    needed(launcher)
    seed = 30 + list(NEEDS).index(launcher)
    out_dir = f"outputs-{launcher}"
    done = workspace.launch(
        "-m", f"seed={seed}", "ttt.epochs=0,1", f"hydra/launcher={launcher}", f"out_dir={out_dir}"
    )
    assert done.code == 0, done.text
    assert "2 of 2 jobs finished" in done.stdout
    runs = [
        Done(0, "", f"run x in {o['run_folder']}", workspace.folder)
        for o in outcomes(workspace, launcher)
    ]
    assert sorted("train" in run.stages("done") for run in runs) == [False, True]
    spans = [(run.events("stage")[0]["time"], run.events("meter")[0]["ended"]) for run in runs]
    assert max(start for start, _ in spans) < min(end for _, end in spans)  # at the same time


LONG = ("ttt=none", "scale.num_steps=4000", "scale.max_seconds=400", "train.log_every=1")


def training(workspace: Workspace, name: str, count: int) -> bool:
    """Whether so many runs of outputs-NAME have begun to train."""
    logs = (folder / "events.jsonl" for folder in run_folders(workspace, name))
    return sum(log.exists() and "train_step" in log.read_text() for log in logs) >= count


@linux
@pytest.mark.parametrize(
    ("launcher", "by"),
    [
        ("serial", "Ctrl-C"),
        ("joblib", "Ctrl-C"),
        ("joblib", "SIGINT to the launcher"),
        ("joblib", "kill -9 of the launcher"),
        ("submitit_local", "SIGINT to the launcher"),
        ("ray", "Ctrl-C"),
    ],
)
def test_no_worker_outlives_a_sweep(
    workspace: Workspace, tmp_path: Path, launcher: str, by: str
) -> None:
    if launcher in NEEDS:
        needed(launcher)
    name = f"end-{launcher}-{by.split()[0]}"
    command = workspace.tiny(
        "-m", "seed=51,52", *LONG, f"hydra/launcher={launcher}", f"out_dir=outputs-{name}"
    )
    running = Running(workspace, command, tmp_path / "log")
    try:
        jobs = 1 if launcher == "serial" else 2
        running.wait_until(lambda: training(workspace, name, jobs), 120)
        assert len(list(filter(is_worker, running.pids()))) == jobs
        if by == "Ctrl-C":
            os.killpg(running.launcher.pid, signal.SIGINT)
        elif by == "SIGINT to the launcher":
            os.kill(running.launcher.pid, signal.SIGINT)
        else:
            running.launcher.kill()
        assert running.gone(20), running.output
        if not by.startswith("kill"):
            assert running.launcher.wait(30) == 130, running.output
    finally:
        running.kill()


@linux
def test_after_kill_9_only_missing_cells_run(workspace: Workspace, tmp_path: Path) -> None:
    """The first cell's worker is killed too: it is tried once more, and named."""
    cells = ("-m", "seed=61,62", "ttt=none", "train.log_every=1", "out_dir=outputs-killed")
    longer = ("scale.num_steps=150", "scale.max_seconds=400")
    running = Running(workspace, workspace.tiny(*cells, *longer), tmp_path / "log")
    try:
        running.wait_until(lambda: training(workspace, "killed", 1), 120)
        (worker,) = (pid for pid in running.pids() if is_worker(pid))
        os.kill(worker, signal.SIGKILL)
        running.wait_until(lambda: "trying once more" in running.output, 60)
        running.wait_until(lambda: training(workspace, "killed", 3), 240)
    finally:
        running.kill()
    before = run_folders(workspace, "killed")
    assert [(folder / "result.json").exists() for folder in before] == [False, True, False]
    done = workspace.launch(*cells, *longer)
    assert done.code == 0 and "2 of 2 jobs finished" in done.stdout, done.text
    assert "1 of these were done before and skipped" in done.stdout
    assert len(run_folders(workspace, "killed")) == 4
    first = json.loads(
        min((workspace.folder / "outputs-killed").glob("sweeps/*/0/outcome.json")).read_text()
    )
    assert len(first["failed_before"]) == 1 and "checkpoint" in first["failed_before"][0]


def is_worker(pid: int) -> bool:
    with suppress(OSError):  # it has ended meanwhile
        return b"pgolf.worker" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return False
