"""Worker jobs: no orphan whatever ends the launcher, and the reason of a failure arrives."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import pgolf
from pgolf.context import Context
from pgolf.distributed import World
from pgolf.errors import RunFailed, UserError
from pgolf.hardware import Devices
from pgolf.worker import _report
from pgolf.workers import failure_file, raise_failure, run_job

# Stands in for pgolf.worker and shadows it on the workers' path, as shipped code does.
WORKER = """
import json, os, sys, time
from pathlib import Path
from pgolf.workers import die_with_parent, failure_file

die_with_parent()
job = Path(sys.argv[1])
order = json.loads(job.read_text())
(job.parent / f"worker-{os.getpid()}.pid").write_text(os.environ["RANK"])
if order["do"] == "sleep":
    time.sleep(120)
elif order["do"] == "fail":
    failure_file(job).write_text(json.dumps(order["report"]))
    sys.exit(1)
elif order["do"] == "die":
    os.kill(os.getpid(), 9)
elif order["do"] == "environment":
    (job.parent / "environment.json").write_text(json.dumps(dict(os.environ)))
"""
LAUNCHER = """
import sys
from pathlib import Path
from pgolf.hardware import Devices
from pgolf.workers import run_job
devices = Devices("cpu", int(sys.argv[3]), "fp32", "auto", False, 1)
run_job(Path(sys.argv[1]), devices, sys.argv[2])
"""
ONE = Devices("cpu", 1, "fp32", "auto", False, 3)
SHADOWED = ("__init__", "agent", "workers", "hardware", "errors")


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A folder with a package pgolf whose worker is the one above."""
    source, folder = Path(pgolf.__file__).parent, tmp_path / "code" / "pgolf"
    folder.mkdir(parents=True)
    for name in SHADOWED:
        (folder / f"{name}.py").symlink_to(source / f"{name}.py")
    (folder / "worker.py").write_text(WORKER)
    return folder.parent


@pytest.fixture
def alone(code: Path, tmp_path: Path) -> Callable[..., Path]:
    """Run one worker, which needs no torchrun."""

    def run(**order: Any) -> Path:
        job = tmp_path / "job.json"
        job.write_text(json.dumps({"cache": str(tmp_path / "cache"), **order}))
        run_job(job, ONE, str(code))
        return tmp_path

    return run


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_worker_outlives_its_launcher(code: Path, tmp_path: Path) -> None:
    launchers = {}
    for case in product(("SIGTERM", "SIGKILL"), (1, 2)):
        folder = tmp_path / f"{case[0]}-{case[1]}"
        folder.mkdir()
        (folder / "job.json").write_text(json.dumps({"do": "sleep", "cache": str(tmp_path)}))
        command = [
            sys.executable,
            "-c",
            LAUNCHER,
            str(folder / "job.json"),
            str(code),
            f"{case[1]}",
        ]
        launchers[case] = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def workers(case: tuple[str, int]) -> list[int]:
        folder = tmp_path / f"{case[0]}-{case[1]}"
        return [int(path.stem.partition("-")[2]) for path in folder.glob("worker-*.pid")]

    try:
        for case, launcher in launchers.items():
            assert wait_for(lambda case=case: len(workers(case)) == case[1], 60), (
                f"{case}: no start"
            )
            assert all(is_alive(pid) for pid in workers(case))
            launcher.send_signal(getattr(signal, case[0]))
            ended = wait_for(lambda case=case: not any(map(is_alive, workers(case))), 20)
            assert ended, f"{case}: workers live on"
            # Interrupted, not failed: the launcher's own exit code comes from that.
            assert launcher.wait(30) != 0
    finally:
        for case, launcher in launchers.items():
            launcher.kill()
            for pid in filter(is_alive, workers(case)):
                os.kill(pid, signal.SIGKILL)


def test_a_worker_that_does_its_job_says_nothing(alone: Callable[..., Path]) -> None:
    folder = alone(do="nothing")
    assert len(list(folder.glob("worker-*.pid"))) == 1


def test_a_worker_that_dies_without_a_word_is_a_failed_run(alone: Callable[..., Path]) -> None:
    with pytest.raises(RunFailed, match=r"ended with code -9 without a message.*out of memory"):
        alone(do="die")


@pytest.mark.parametrize(("kind", "error"), [("user", UserError), ("run", RunFailed)])
def test_the_workers_reason_arrives(
    alone: Callable[..., Path], kind: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"^no such file: x$"):
        alone(do="fail", report={"kind": kind, "message": "no such file: x"})
    alone(do="nothing")  # and the reason does not stay for the next attempt


def test_workers_get_threads_path_and_what_was_set(
    alone: Callable[..., Path], code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "backend:cudaMallocAsync")
    monkeypatch.setenv("PYTHONPATH", "/given")
    monkeypatch.setenv("RANK", "7")  # a leftover: whoever is one of several has WORLD_SIZE, too
    environment = json.loads((alone(do="environment") / "environment.json").read_text())
    assert environment["OMP_NUM_THREADS"] == "3"
    assert (environment["RANK"], environment["WORLD_SIZE"]) == ("0", "1")
    assert environment["PYTORCH_CUDA_ALLOC_CONF"] == "backend:cudaMallocAsync"
    assert environment["TRITON_CACHE_DIR"].endswith("/cache/compiled/triton")
    root = str(Path(pgolf.__file__).parent.parent)
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(code), root, "/given"]


def test_a_worker_without_a_message_but_with_code_2_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="its reason stands above"):
        raise_failure(tmp_path / "none.json", 2)


def test_a_worker_that_cannot_join_the_others_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before there is a world, too, the launcher is told why: here the port is taken."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    job = {
        "kind": "evaluate", "run_folder": str(tmp_path), "cache": str(tmp_path), "limits": {},
        "seed": 1, "devices": ONE.as_dict(),
    }  # fmt: skip
    (tmp_path / "job.json").write_text(json.dumps(job))
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        with pytest.raises(RunFailed, match=r"stage start: .*[Aa]ddress already in use"):
            run_job(tmp_path / "job.json", ONE, port=taken.getsockname()[1])
    assert "Traceback" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("code", [130, -signal.SIGINT, -signal.SIGTERM])
def test_interrupted_workers_are_an_interruption(tmp_path: Path, code: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        raise_failure(tmp_path / "none.json", code)


@pytest.mark.parametrize(
    ("error", "kind", "parts"),
    [
        (UserError("data.path=x: no such file"), "user", ["data.path=x: no such file"]),
        (RunFailed("training loss is nan"), "run", ["stage train: training loss is nan", "log:"]),
        (ValueError("shapes differ"), "run", ["stage train: ValueError: shapes differ", "log:"]),
        (OSError(28, "No space left on device", "/disk/a"), "user", ["no space left", "/disk/a"]),
        (OSError(5, "Input/output error"), "run", ["stage train: OSError", "log:"]),
    ],
)
def test_a_worker_reports_kind_stage_and_log(
    tmp_path: Path, error: Exception, kind: str, parts: list[str]
) -> None:
    (tmp_path / "config.yaml").touch()
    job = {"run_folder": str(tmp_path), "cache": str(tmp_path), "limits": {}}
    context = Context(job, World(rank=1, world_size=2))  # any rank may be the one that fails
    context.stage = "train"
    assert _report(context, tmp_path / "job.json", error) == (2 if kind == "user" else 1)
    report = json.loads(failure_file(tmp_path / "job.json").read_text())
    assert report["kind"] == kind and all(part in report["message"] for part in parts)
    assert type(error).__name__ in (tmp_path / "log.txt").read_text()
    # The first reason is the cause; later ones are what it did to the other ranks.
    _report(context, tmp_path / "job.json", RuntimeError("connection closed by peer"))
    assert json.loads(failure_file(tmp_path / "job.json").read_text()) == report


def test_what_is_gone_with_its_folder_is_not_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An artifact that is scored again has no run folder of its own, only a temporary one."""
    context = Context({"run_folder": str(tmp_path), "cache": str(tmp_path), "limits": {}}, World())
    context.stage = "final"
    _report(context, tmp_path / "job.json", ValueError("shapes differ"))
    report = json.loads(failure_file(tmp_path / "job.json").read_text())
    assert report["message"] == "stage final: ValueError: shapes differ"
    assert "ValueError: shapes differ" in capsys.readouterr().err
