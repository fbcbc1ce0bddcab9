"""Two workers on one host: started here, by torchrun, or by hand as srun does; the same numbers."""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path

import pytest

from tests.integration.command import Done, Workspace

pytestmark = pytest.mark.slow
TORCHRUN = [
    *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
]


NO_TTT = "ttt=none"  # federated: with more workers it is another method
OWN = "seed=11"  # of this file alone: training is not in the cache, so its losses are logged


@pytest.fixture(scope="module")
def one(workspace: Workspace) -> Done:
    return workspace.launch(NO_TTT, OWN)


@pytest.fixture(scope="module")
def two(workspace: Workspace) -> Done:
    return workspace.launch(NO_TTT, OWN, "hardware.num_workers=2")


def test_two_workers_train_and_score_as_one(one: Done, two: Done) -> None:
    assert "2 worker(s) on cpu" in two.stderr and "train" in two.stages("done")
    assert two.losses() == pytest.approx(one.losses(), rel=1e-4)
    for name, score in one.result["bpb"].items():
        found = two.result["bpb"][name]
        assert (found["tokens"], found["bytes"]) == (score["tokens"], score["bytes"])
        assert found["bpb"] == pytest.approx(score["bpb"], rel=1e-5)
    assert two.result["eligibility"]["eligible"]


def test_test_time_training_in_two_workers_ends_well(workspace: Workspace, two: Done) -> None:
    done = workspace.launch(OWN, "ttt.epochs=2", "hardware.num_workers=2")
    assert "train" in done.stages("reused") and len(done.events("ttt_epoch")) == 2
    assert done.result["bpb"]["adapted"]["bpb"] < two.result["bpb"]["adapted"]["bpb"]


def torchrun(workspace: Workspace, *overrides: str) -> Done:
    return workspace.run([*TORCHRUN, *workspace.tiny(*overrides)[1:]])


def test_torchrun_makes_its_processes_the_workers(workspace: Workspace, two: Done) -> None:
    done = torchrun(workspace, NO_TTT, "seed=7")
    assert done.result["seed"] == 7 and "train" in done.stages("done")
    assert "2 worker(s) on cpu" in done.stderr
    assert len(re.findall(r"^run \S+ in ", done.stderr, re.MULTILINE)) == 1
    assert done.stdout.count("bits per byte") == 1
    # The same world, however it was started: what one has made the other takes.
    again = workspace.launch(NO_TTT, "seed=7", "hardware.num_workers=2")
    assert {"train", "ttt", "pack"} <= again.stages("reused")
    assert again.result["bpb"]["final"]["nats"] == pytest.approx(
        done.result["bpb"]["final"]["nats"], rel=1e-9
    )


def test_a_failure_before_any_job_ends_torchrun(workspace: Workspace) -> None:
    done = torchrun(workspace, "data.path=/nowhere.txt")
    assert done.code != 0 and "/nowhere.txt: no such file" in done.stderr


def by_hand(workspace: Workspace, folder: Path, *overrides: str) -> list[tuple[int, str]]:
    """Two launchers as srun starts them; exit code and output of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = []
    for rank in ("0", "1"):
        world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command, log = workspace.tiny(*overrides), folder / f"{rank}.txt"
        started.append((workspace.start(command, log, **world, **address), log))
    try:
        return [(process.wait(200), log.read_text()) for process, log in started]
    finally:
        for process, _ in started:
            process.kill()


def test_processes_started_as_by_srun_are_the_workers(
    workspace: Workspace, two: Done, tmp_path: Path
) -> None:
    (code, text), (other_code, other) = by_hand(workspace, tmp_path, NO_TTT, OWN, "quant=rtn")
    assert code == other_code == 0, text + other
    assert other == "", other  # rank 0 speaks for all
    done = Done(code, text, text, workspace.folder)
    assert "train" in done.stages("reused") and "pack" in done.stages("done")
    assert done.result["bpb"]["ema"]["nats"] == two.result["bpb"]["ema"]["nats"]


def test_a_failure_of_rank_0_ends_all_with_its_reason(workspace: Workspace, tmp_path: Path) -> None:
    (code, text), (other_code, other) = by_hand(workspace, tmp_path, "data.path=/nowhere.txt")
    assert code == 2 and "/nowhere.txt: no such file" in text
    assert other_code == 1 and "rank 0: /nowhere.txt: no such file" in other
    assert "Traceback" not in text + other


def test_a_failure_of_a_stage_ends_all_with_its_reason(
    workspace: Workspace, two: Done, tmp_path: Path
) -> None:
    (code, text), (other_code, other) = by_hand(workspace, tmp_path, NO_TTT, OWN, "quant.bits=9")
    assert code == other_code == 2, text + other
    assert "expected 2 to 8" in text and "expected 2 to 8" in other
    assert "Traceback" not in text + other
