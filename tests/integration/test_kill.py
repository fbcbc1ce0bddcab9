"""Whatever ends a run: no process stays, the same command goes on, only used time is charged."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pgolf.jobs import PRODUCE_STAGES
from tests.integration.command import Done, Workspace
from tests.integration.processes import Running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]
# Long enough to be interrupted three times, also where a busy machine is slow to notice.
NUM_STEPS = 400
DEAD_S = 3.0
LONG = ("ttt=none", "seed=5", f"scale.num_steps={NUM_STEPS}", "scale.max_seconds=400")
OFTEN = ("train.checkpoint_every_s=0.4", "train.log_every=1")


@dataclass(frozen=True)
class Attempt:
    """What an interrupted attempt left: its exit code, output, events, and whether all ended."""

    code: int
    output: str
    steps: list[dict[str, Any]]
    resumed_at: int | None
    all_gone: bool


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One of its own: runs that other tests killed leave their checkpoints in the shared cache."""
    return Workspace(tmp_path_factory.mktemp("kill"))


@contextmanager
def attempt(workspace: Workspace, log: Path) -> Iterator[Running]:
    running = Running(workspace, workspace.tiny(*LONG, *OFTEN), log)
    try:
        yield running
    finally:
        running.kill()


def interrupt(workspace: Workspace, log: Path, by: str) -> Attempt:
    """Start the run, let it train past a checkpoint, and end it in one of three ways."""
    with attempt(workspace, log) as running:
        begun = len(running.events("train_step"))
        running.wait_until(lambda: len(running.events("train_step")) > begun + 25)
        if by == "kill -9 of everything":
            running.kill()
        elif by == "Ctrl-C":  # what a terminal sends to the group in its foreground
            os.killpg(running.launcher.pid, signal.SIGINT)
        else:
            running.launcher.kill()
        all_gone = running.gone()
        code = running.launcher.wait(30)  # one that is killed while the disk is busy takes time
        resumes = [event["step"] for event in running.events("resume")]
        steps = running.events("train_step")
    return Attempt(code, running.output, steps, resumes[0] if resumes else None, all_gone)


@pytest.fixture(scope="module")
def attempts(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Attempt]:
    """The same command ended three times."""
    logs = tmp_path_factory.mktemp("logs")
    found = {}
    for by in ("kill -9 of everything", "Ctrl-C", "kill -9 of the launcher"):
        found[by] = interrupt(workspace, logs / "log.txt", by)
        time.sleep(DEAD_S)
    return found


@pytest.fixture(scope="module")
def last(workspace: Workspace, attempts: dict[str, Attempt]) -> Done:
    """The fourth time it is left alone."""
    return workspace.launch(*LONG, *OFTEN)


def test_nothing_outlives_the_launcher(attempts: dict[str, Attempt]) -> None:
    for by, found in attempts.items():
        assert found.all_gone, by


def test_ctrl_c_ends_with_130_and_says_what_next(attempts: dict[str, Attempt]) -> None:
    found = attempts["Ctrl-C"]
    assert found.code == 130 and "Traceback" not in found.output
    assert "the same command continues from the last checkpoint" in found.output


def test_every_attempt_goes_on_from_the_last_checkpoint(
    attempts: dict[str, Attempt], last: Done
) -> None:
    first, second, third = attempts.values()
    assert first.resumed_at is None
    resumed = [second.resumed_at, third.resumed_at, last.events("resume")[0]["step"]]
    for before, step in zip((first, second, third), resumed, strict=True):
        assert step is not None and 0 < step <= before.steps[-1]["step"]
    assert last.result["bpb"]["final"] is not None
    steps = [event["step"] for event in last.events("train_step")]
    assert steps == list(range(resumed[2] + 1, NUM_STEPS + 1))


def test_a_step_that_is_done_again_is_the_same_step(
    attempts: dict[str, Attempt], last: Done
) -> None:
    rows = [row for found in attempts.values() for row in found.steps]
    rows += last.events("train_step")
    by_step: dict[int, list[float]] = {}
    for row in rows:
        by_step.setdefault(row["step"], []).append(row["train/loss"])
    assert sorted(by_step) == list(range(1, NUM_STEPS + 1))
    for losses in by_step.values():
        assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-5)


def test_only_used_time_is_charged(attempts: dict[str, Attempt], last: Done) -> None:
    """Dead time is not, but the steps that a kill made worthless are."""
    elapsed_s = [found.steps[-1]["elapsed_s"] for found in attempts.values()]
    used_s = last.events("resume")[0]["elapsed_s"]
    # Time is noted twice a second, so a kill forgets that much at most.
    assert elapsed_s[-1] - 1.0 <= used_s <= elapsed_s[-1] + 1.0
    assert elapsed_s == sorted(elapsed_s)
    rows = last.events("train_step")
    own_s = rows[-1]["time"] - rows[0]["time"]
    charged = last.result["seconds"]["train"]
    assert used_s + own_s - 0.5 < charged < used_s + own_s + 2.0
    # All that is charged of this attempt, start and end included, was spent since the last kill.
    [resume], [artifact] = last.events("resume"), last.events("artifact")
    stages = [event for event in last.events("stage") if event["status"] == "done"]
    spent_s = sum(event["seconds"] for event in stages if event["stage"] in PRODUCE_STAGES)
    spent_s += last.result["seconds"]["start_produce"]
    spent_s -= resume["elapsed_s"] + resume["warm_up_s"]
    killed = list(attempts.values())[-1].steps[-1]["time"]
    assert own_s < spent_s < artifact["time"] - killed - DEAD_S


def test_a_finished_run_leaves_no_checkpoints(workspace: Workspace, last: Done) -> None:
    assert last.code == 0
    assert not list(workspace.cache.rglob("checkpoint*"))
    assert not list(workspace.cache.rglob("heartbeat*"))
    assert not list(workspace.cache.glob("train/*.work"))
