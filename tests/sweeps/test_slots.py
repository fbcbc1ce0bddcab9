"""GPUs are dealt so that no two jobs share one, and come back when a job is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pgolf.sweeps import slots

# Takes a slot, notes when it has it and when it gives it back.
JOB = """
import sys, time
from pathlib import Path
from pgolf.sweeps.slots import free_slot
folder, share = Path(sys.argv[1]), int(sys.argv[2])
with free_slot(folder, ["0", "1", "2", "3"], share) as mine:
    began = time.time()
    print("holds", flush=True)
    time.sleep(float(sys.argv[3]))
    ended = time.time()
print(",".join(mine), began, ended)
"""


def start(folder: Path, share: int, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", JOB, str(folder), str(share), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("share", [1, 2, 3])
def test_jobs_at_the_same_time_never_share_a_gpu(tmp_path: Path, share: int) -> None:
    jobs = [start(tmp_path, share, 0.15) for _ in range(6)]
    spans = []
    for job in jobs:
        out, _ = job.communicate(timeout=60)
        gpus, began, ended = out.splitlines()[-1].split()
        assert len(set(gpus.split(","))) == share
        spans.append((set(gpus.split(",")), float(began), float(ended)))
    for index, (gpus, began, ended) in enumerate(spans):
        for other, start_s, end_s in spans[:index]:
            assert not gpus & other or ended <= start_s or end_s <= began


def test_a_killed_job_gives_its_gpus_back(tmp_path: Path) -> None:
    job = start(tmp_path, 4, 60)
    assert job.stdout is not None and job.stdout.readline() == "holds\n"
    waited: list[float] = []

    def kill(seconds: float) -> None:
        assert not waited  # once it is dead, the first try finds them
        waited.append(seconds)
        job.send_signal(signal.SIGKILL)
        job.communicate()

    with slots.free_slot(tmp_path, ["0", "1", "2", "3"], 4, sleep=kill) as mine:
        assert mine == ["0", "1", "2", "3"]
    assert waited


def test_the_environment_names_the_gpus_and_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "lock_folder", lambda: tmp_path)
    monkeypatch.setenv(slots.VISIBLE, "2, 5")
    assert slots.visible_gpus() == ["2", "5"]
    with slots.dealt_gpus(["2", "5"], 1) as first:
        assert first == ["2"] and os.environ[slots.VISIBLE] == "2"
        with slots.dealt_gpus(["2", "5"], 1) as second:
            assert second == ["5"] and os.environ[slots.VISIBLE] == "5"
    assert os.environ[slots.VISIBLE] == "2, 5"
    monkeypatch.delenv(slots.VISIBLE)
    with slots.dealt_gpus(["0"], 1):
        assert os.environ[slots.VISIBLE] == "0"
    assert slots.VISIBLE not in os.environ
    with slots.dealt_gpus([], 1) as none:
        assert none == [] and slots.VISIBLE not in os.environ


def test_who_is_dealt_how_many() -> None:
    joblib = {"_target_": "hydra_plugins.x.JoblibLauncher", "n_jobs": 3}
    assert slots.share_of(joblib, 8, None) == 2
    assert slots.share_of(joblib, 2, None) == 1
    assert slots.share_of(joblib, 8, 4) == 4
    assert slots.share_of({"_target_": "x.BasicLauncher"}, 8, None) is None
    assert slots.share_of({"_target_": "x.RayLauncher"}, 8, None) is None
    assert slots.share_of({"_target_": "x.SlurmLauncher"}, 8, None) is None
    assert slots.share_of({"_target_": "x.LocalLauncher"}, 8, None) == 1
