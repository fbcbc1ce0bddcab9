"""W&B for real, against a compatible server on the loopback: what arrives is what the run has.

The server (openwandb) keeps name, configuration, metrics, summary, tags and state. It has no place
for groups and job types: those are read from the record that wandb sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgolf.config import load_config
from pgolf.tracking.metrics import summary_of
from tests.integration.command import Done, Workspace
from tests.integration.processes import Running
from tests.tracking.offline_file import read_run
from tests.tracking.wandb_server import KEY, WandbServer

pytest.importorskip("openwandb", reason="the server for the test of W&B is not installed")
pytestmark = pytest.mark.slow
TRACKED = ("tracking=wandb", "tracking.project=golf", "tracking.timeout_s=20", "ttt.epochs=1")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WandbServer]:
    server = WandbServer(tmp_path_factory.mktemp("wandb-server"))
    yield server
    server.stop()


def account(server: WandbServer, home: Path) -> dict[str, str | None]:
    """An environment with this server's key and none of the developer's own."""
    return {
        "HOME": str(home), "WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "WANDB_MODE": None,
        "WANDB_CONFIG_DIR": str(home), "NETRC": str(home / "netrc"),
    }  # fmt: skip


def check_arrived(server: WandbServer, done: Done, kind: str) -> None:
    """Name, group, configuration, metrics and summary are those of the run folder."""
    config, run_id = load_config(done.folder), done.folder.name
    run = server.run(run_id)
    assert run["display_name"] == f"{config['name']} seed {config['seed']}"
    assert run["state"] == "finished"
    sent = {key: value["value"] for key, value in run["config"].items() if key != "_wandb"}
    assert sent == config
    losses = server.curve(run_id, "train/loss")
    assert losses == done.losses() and losses
    steps = [event["step"] for event in done.events("train_step")]
    assert server.curve(run_id, "step") == steps
    epochs = [event["val/bpb"] for event in done.events("ttt_epoch") if "val/bpb" in event]
    assert server.curve(run_id, "ttt/bpb") == epochs
    for key, value in summary_of(done.result).items():
        assert run["summary"][key] == value, key
    record = read_run(done.folder, kind)["run"]
    assert record["group"] == config["name"] and record["project"] == "golf"


def test_an_online_run_arrives_whole_and_an_offline_one_later(
    workspace: Workspace, server: WandbServer, tmp_path: Path
) -> None:
    environment = account(server, tmp_path)
    server.start()
    online = workspace.launch(*TRACKED, "seed=71", "out_dir=tracked", **environment)
    assert "tracking: W&B online" in online.stderr, online.text
    check_arrived(server, online, "run")

    server.stop()
    offline = workspace.launch(*TRACKED, "seed=72", "out_dir=tracked", **environment)
    assert "tracking: W&B offline" in offline.stderr and "refused" in offline.stderr, offline.text
    command = ["track", "sync", "tracked"]
    failed = workspace.pgolf(*command, **environment)
    assert failed.code == 2 and server.url in failed.stderr

    server.start()
    assert server.rows("select * from runs where run_id = ?", offline.folder.name) == []
    sent = workspace.answer(*command, **environment)
    assert sent["sent"] == [str(offline.folder)] and not sent["failed"], sent
    check_arrived(server, offline, "offline-run")
    again = workspace.answer(*command, **environment)
    assert again["sent"] == [] and again["sent_before"] == [str(offline.folder)]


def test_a_killed_run_goes_on_as_the_same_run_and_its_artifact_arrives(
    workspace: Workspace, server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.start()
    environment = account(server, tmp_path)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    given = {name: value for name, value in environment.items() if value is not None}
    changes = (
        *TRACKED[:-1], "tracking.upload_artifact=true", "ttt=none", "seed=73", "out_dir=killed",
        "scale.num_steps=150", "scale.max_seconds=400", "train.checkpoint_every_s=0.4",
        "train.log_every=1",
    )  # fmt: skip
    running = Running(workspace, workspace.tiny(*changes), tmp_path / "log.txt", **given)
    try:
        running.wait_until(lambda: "tracking: W&B online" in running.output)
        running.wait_until(lambda: len(running.events("train_step")) > 40)
        running.launcher.kill()
        assert running.gone(120)  # W&B's process sends what it has got
    finally:
        running.kill()
    (first,) = (workspace.folder / "killed").glob("*/*/config.yaml")
    done = workspace.launch(*changes, **environment)
    assert "tracking: W&B online, going on" in done.stderr, done.text
    run_id = first.parent.name
    assert done.folder.name != run_id and done.events("resume")
    assert server.rows("select * from runs where run_id = ?", done.folder.name) == []
    run = server.run(run_id)
    assert run["state"] == "finished"
    assert run["summary"]["bpb/final"] == done.result["bpb"]["final"]["bpb"]
    # The server counts wandb's own steps from 0 again, so what is drawn over what is left to us.
    assert sorted(server.curve(run_id, "step")) == [float(step) for step in range(1, 151)]
    # It keeps no files of artifacts.
    (artifact,) = server.rows("select * from artifacts where run_id = ?", run_id)
    assert artifact["name"] == f"{done.result['name']}-seed73"
    assert artifact["artifact_type"] == "model"
    metadata = json.loads(artifact["metadata_json"])
    assert metadata["bpb"] == run["summary"]["bpb/final"] and metadata["eligible"] is True
    assert metadata["total_bytes"] == done.result["artifact"]["total_bytes"]
