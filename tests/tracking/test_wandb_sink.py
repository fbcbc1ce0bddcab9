"""The W&B tracker: offline files are complete, nothing blocks, nothing is lost."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pgolf.errors import UserError
from pgolf.tracking import wandb_process
from pgolf.tracking.wandb_sink import WandbTracking
from tests.report.fixtures import make_result
from tests.tracking.offline_file import read_run

KEY = "a" * 40
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    """A machine without an account, whatever the developer's own has."""
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "settings"))


def train_step(step: int) -> dict:
    return {"event": "train_step", "stage": "train", "step": step, "train/loss": 1 / step}


def test_offline_file_holds_curves_config_and_result(tmp_path):
    lines: list[str] = []
    sink = WandbTracking(lines.append, project="golf", tags=["nano"], job_type="test")
    sink.check()
    sink.start("run-1", "recurrent3-nano", {"seed": 7, "ttt": {"epochs": 3}}, tmp_path)
    for step in range(1, 31):
        sink.log(train_step(step))
    sink.log({"event": "ttt_epoch", "stage": "ttt", "epoch": 1, "train/loss": 0.5, "val/bpb": 1.25})
    result = make_result()
    sink.finish(result)

    run = read_run(tmp_path)
    losses = [row["train/loss"] for row in run["history"] if "train/loss" in row]
    assert losses == [1 / step for step in range(1, 31)]
    assert [row["ttt/bpb"] for row in run["history"] if "ttt/bpb" in row] == [1.25]
    assert run["run"]["config"]["ttt"] == {"epochs": 3}
    assert run["run"]["group"] == "recurrent3-nano" and run["run"]["tags"] == ["nano"]
    assert run["run"]["job_type"] == "test" and run["run"]["project"] == "golf"
    assert run["summary"]["bpb/final"] == result["bpb"]["final"]["bpb"]
    assert run["summary"]["artifact/total_bytes"] == result["artifact"]["total_bytes"]
    assert run["summary"]["eligible"] is False
    assert run["exit_code"] == 0
    assert len(lines) == 1 and "no API key" in lines[0] and "wandb sync" in lines[0]


@pytest.mark.parametrize("is_there", [True, False])
def test_the_artifact_goes_with_it_or_is_missed_aloud(tmp_path, is_there):
    if is_there:
        (tmp_path / "artifact").mkdir()
        (tmp_path / "artifact" / "model.pgolf").write_bytes(b"weights")
    lines: list[str] = []
    sink = WandbTracking(lines.append, project="golf", mode="offline", upload_artifact=True)
    sink.start("run-1", "nano", {}, tmp_path)
    sink.finish(make_result())
    run = read_run(tmp_path)
    assert run["exit_code"] == 0
    missed = [line for line in lines if "has not got the artifact" in line]
    if is_there:
        (artifact,) = run["artifacts"]
        assert artifact["type"] == "model" and artifact["files"] == {"model.pgolf": 7}
        assert not missed
    else:
        assert run["artifacts"] == [] and len(missed) == 1 and "pgolf.log" in missed[0]


def test_unreachable_server_falls_back_to_offline_in_time(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", NOBODY)
    lines: list[str] = []
    sink = WandbTracking(lines.append, project="golf", timeout_s=2.0)
    began = time.monotonic()
    sink.start("run-1", "nano", {}, tmp_path)
    assert time.monotonic() - began < 0.2
    sink.log(train_step(1))
    sink.finish(None)
    assert time.monotonic() - began < 10
    run = read_run(tmp_path)
    assert run["history"][0]["train/loss"] == 1.0
    assert run["exit_code"] == 1
    assert len(lines) == 1 and NOBODY in lines[0] and "wandb sync" in lines[0]


def test_launcher_never_imports_wandb():
    code = (
        "import sys\nfrom pgolf.tracking.wandb_sink import WandbTracking\n"
        "from pgolf.tracking.follow import EventFollower\nimport pgolf.report.table\n"
        "import pgolf.report.page, pgolf.report.sweep, pgolf.result\n"
        "assert not {'wandb', 'torch', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -- mode=online is checked before anything starts -------------------------------------------------


def test_online_without_key_names_the_remedies():
    with pytest.raises(UserError, match=r"no API key .*wandb login.*mode=offline.*tracking=none"):
        WandbTracking(project="golf", mode="online").check()


def test_online_unreachable_names_the_url(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", NOBODY)
    began = time.monotonic()
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9 cannot be used.*refused.*tracking=none"):
        WandbTracking(project="golf", mode="online").check()
    assert time.monotonic() - began < 2


def test_online_with_a_server_that_never_answers_is_an_error_within_two_seconds(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(UserError, match="cannot be used"):
            WandbTracking(project="golf", mode="online").check()
        assert time.monotonic() - began < 2


# -- a wandb that dies or hangs ------------------------------------------------------------------

STUB = """
import json, sys, time, pathlib
request = json.loads(sys.stdin.readline())
mode, folder = request["init"]["mode"], pathlib.Path(request["init"]["dir"])
if mode == "online" and BEHAVIOUR == "refuse":
    print(json.dumps({"ok": False, "reason": "permission denied"}), flush=True)
    sys.exit()
print(json.dumps({"ok": True, "url": "http://w"}), flush=True)
if mode == "online" and BEHAVIOUR == "die":
    sys.stdin.readline()
    sys.exit(3)
lines = []
for line in sys.stdin:
    lines.append(line)
    if "finish" in line:
        break
if mode == "online" and BEHAVIOUR == "hang":
    time.sleep(60)
(folder / mode).write_text("".join(lines))
"""


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [("refuse", "permission denied"), ("die", "its process ended"), ("hang", "did not finish")],
)
def test_online_run_that_fails_is_logged_whole_offline(tmp_path, monkeypatch, behaviour, why):
    stub = tmp_path / "stub.py"
    stub.write_text(f"BEHAVIOUR = {behaviour!r}\n{STUB}")
    monkeypatch.setattr(wandb_process, "CHILD", stub)
    lines: list[str] = []
    sink = WandbTracking(lines.append, project="golf", finish_timeout_s=1.0)
    monkeypatch.setattr(sink, "_choose_mode", lambda: ("online", ""))
    sink.start("run-1", "nano", {}, tmp_path)
    for step in range(1, 6):
        sink.log(train_step(step))
    began = time.monotonic()
    sink.finish(None)
    assert time.monotonic() - began < 8
    assert (tmp_path / "offline").read_text().count("train/loss") == 5
    assert why in lines[-1] and "wandb sync" in lines[-1]


def test_wandb_that_cannot_start_leaves_the_run_alone(tmp_path, monkeypatch):
    stub = tmp_path / "stub.py"
    stub.write_text("raise SystemExit(1)")
    monkeypatch.setattr(wandb_process, "CHILD", stub)
    lines: list[str] = []
    sink = WandbTracking(lines.append, project="golf", mode="offline")
    sink.start("run-1", "nano", {}, tmp_path)
    sink.log(train_step(1))
    sink.finish(None)
    assert len(lines) == 1 and "the run goes on" in lines[0]


@pytest.mark.parametrize("mode", ["offline", "auto"])
def test_unwritable_run_folder_leaves_the_run_alone(tmp_path, mode):
    in_the_way = tmp_path / "run"
    in_the_way.write_text("a file, not a folder")
    lines: list[str] = []
    sink = WandbTracking(lines.append, project="golf", mode=mode)
    sink.start("run-1", "nano", {}, Path(in_the_way))
    sink.finish(None)
    assert len(lines) == 1 and "the run goes on" in lines[0]
