"""Trackers without an account: what arrives is read back, a failing one costs the run nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pgolf.tracking.child_sink import ChildTracking
from pgolf.tracking.several import SeveralTracking
from pgolf.tracking.tensorboard_sink import TensorboardTracking
from pgolf.tracking.trackio_sink import TrackioTracking
from tests.report.fixtures import make_result

STEPS = range(1, 6)
EPOCH = {"event": "ttt_epoch", "stage": "ttt", "epoch": 2, "train/loss": 0.5, "val/bpb": 1.25}
CONFIG = {"seed": 7, "ttt": {"epochs": 3}, "out_dir": "outputs"}


def feed(sink, folder: Path) -> dict:
    """A run of five steps and an epoch; returns its result."""
    result = make_result()
    sink.check()
    began = time.monotonic()
    sink.start("run-1", "nano", CONFIG, folder)
    for step in STEPS:
        sink.log({"event": "train_step", "stage": "train", "step": step, "train/loss": 1 / step})
    sink.log(EPOCH)
    assert time.monotonic() - began < 0.5  # nothing waits for the library
    sink.finish(result)
    return result


def read_tensorboard(folder: Path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return events


def test_tensorboard_files_hold_curves_figures_and_configuration(tmp_path):
    said: list[str] = []
    result = feed(TensorboardTracking(said.append), tmp_path)
    events = read_tensorboard(tmp_path / "tensorboard")
    assert [(p.step, round(p.value, 5)) for p in events.Scalars("train/loss")] == [
        (step, round(1 / step, 5)) for step in STEPS
    ]
    assert [(p.step, p.value) for p in events.Scalars("ttt/bpb")] == [(2, 1.25)]
    final = events.Scalars("bpb/final")[-1].value
    assert final == pytest.approx(result["bpb"]["final"]["bpb"], rel=1e-6)
    assert set(events.PluginTagToContent("hparams")) == {
        "_hparams_/session_start_info", "_hparams_/session_end_info",
    }  # fmt: skip
    start = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    assert b"ttt.epochs" in start
    assert len(said) == 1 and "tensorboard --logdir" in said[0]


READ_TRACKIO = """
import json, sys
from trackio.sqlite_storage import SQLiteStorage
(run,) = SQLiteStorage.get_runs("golf")
logs = SQLiteStorage.get_logs("golf", run)
config = SQLiteStorage.get_run_config("golf", run)
print(json.dumps({"run": run, "logs": logs, "config": config}, default=str))
"""


def test_trackio_database_holds_curves_figures_and_configuration(tmp_path, monkeypatch):
    pytest.importorskip("trackio")
    said: list[str] = []
    database = tmp_path / "database"
    result = feed(TrackioTracking(said.append, project="golf", folder=str(database)), tmp_path)
    monkeypatch.setenv("TRACKIO_DIR", str(database))
    command = [sys.executable, "-c", READ_TRACKIO]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    import json

    found = json.loads(done.stdout.strip().splitlines()[-1])
    losses = [row["train/loss"] for row in found["logs"] if "train/loss" in row]
    assert losses == [1 / step for step in STEPS]
    assert [row["ttt/bpb"] for row in found["logs"] if "ttt/bpb" in row] == [1.25]
    finals = [row["bpb/final"] for row in found["logs"] if "bpb/final" in row]
    assert finals[-1] == result["bpb"]["final"]["bpb"]
    assert found["config"]["ttt"] == {"epochs": 3} and found["config"]["seed"] == 7
    assert "nano" in found["run"] and "seed 7" in found["run"] and "run-1" in found["run"]
    assert len(said) == 1 and "trackio show" in said[0], said


CHILDREN = {
    "dies": "import sys; sys.stdin.readline(); raise SystemExit(3)",
    "refuses": 'print(\'{"ok": false, "reason": "no room"}\', flush=True)',
    "hangs": "import time; print('{\"ok\": true}', flush=True); time.sleep(60)",
}
WORDS = {"dies": "ended without an answer", "refuses": "no room", "hangs": "did not end within"}


@pytest.mark.parametrize("behaviour", CHILDREN)
def test_a_failing_child_is_reported_and_nothing_waits(tmp_path, behaviour):
    script = tmp_path / "child.py"
    script.write_text(CHILDREN[behaviour])
    said: list[str] = []
    child = ChildTracking(said.append, "json", script, finish_timeout_s=2.0)
    child.begin({}, tmp_path / "log", "here")
    for step in range(2000):
        child.put({"log": {"step": step}})
    began = time.monotonic()
    child.end({})
    assert time.monotonic() - began < 6
    assert WORDS[behaviour] in said[-1], said


class Broken:
    """A sink all of whose methods raise."""

    def __init__(self, say) -> None:
        del say

    def check(self): ...

    def start(self, *arguments):
        raise RuntimeError("boom")

    log = finish = start


def test_one_of_several_that_raises_is_left_out_and_the_others_go_on(tmp_path):
    said: list[str] = []
    several = SeveralTracking(
        said.append,
        sinks=["wandb", "tensorboard"],
        wandb={"_target_": f"{__name__}.Broken"},
        trackio={},
        tensorboard={"_target_": "pgolf.tracking.tensorboard_sink.TensorboardTracking"},
    )
    feed(several, tmp_path)
    assert len(read_tensorboard(tmp_path / "tensorboard").Scalars("train/loss")) == len(STEPS)
    assert [line for line in said if "wandb failed and is left out: boom" in line]
