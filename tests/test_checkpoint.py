"""Checkpoints: the newest whole set, whatever happened while the next one was written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from pgolf import checkpoint as checkpoint_module
from pgolf.checkpoint import Checkpoints
from pgolf.distributed import World
from pgolf.errors import UserError


def snapshot(step: int) -> dict[str, Any]:
    return {
        "model": {"weight": torch.full((50, 50), float(step)), "bias": torch.ones(3).bfloat16()},
        "loader": {"position": step, "name": "a"},
        "state": {"step": step, "last_loss": float("nan")},
        "rng": torch.get_rng_state(),
    }


def test_the_newest_set_is_loaded_and_older_ones_go(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load(World()) is None
    for step in (3, 10):
        checkpoints.save(snapshot(step), World())
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-10-rank0.pt", "checkpoint.json"]
    loaded = Checkpoints(tmp_path).load(World())
    assert loaded is not None and loaded["state"]["step"] == 10 == loaded["loader"]["position"]
    assert torch.equal(loaded["model"]["weight"], snapshot(10)["model"]["weight"])
    assert loaded["model"]["bias"].dtype == torch.bfloat16
    assert torch.equal(loaded["rng"], torch.get_rng_state())


def test_killed_while_saving_the_set_before_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*arguments: Any) -> None:
        raise Killed

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(snapshot(3), World())
    for place in ("torch.save", "pgolf.checkpoint.write_json"):
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(place, killed)
            checkpoints.save(snapshot(4), World())
        loaded = Checkpoints(tmp_path).load(World())
        assert loaded is not None and loaded["state"]["step"] == 3


def test_another_number_of_workers_or_a_missing_part_starts_anew(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(snapshot(3), World())
    pointer = tmp_path / checkpoint_module.LATEST
    text = pointer.read_text()
    pointer.write_text(text.replace('"world_size": 1', '"world_size": 2'))
    assert checkpoints.load(World()) is None
    pointer.write_text(text)
    (tmp_path / "checkpoint-3-rank0.pt").unlink()
    assert checkpoints.load(World()) is None


@pytest.mark.parametrize("where", [0.0, 0.3, 0.5, 0.7])
def test_a_damaged_part_is_named_with_the_remedy(tmp_path: Path, where: float) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(snapshot(3), World())
    path = tmp_path / "checkpoint-3-rank0.pt"
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path.name} is damaged.*remove {tmp_path}"):
        checkpoints.load(World())


@pytest.mark.parametrize("content", ["", '{"step":', "[]", "3", '{"step": {}}'])
@pytest.mark.parametrize("name", [checkpoint_module.LATEST, checkpoint_module.HEARTBEAT])
def test_a_damaged_note_is_named_with_the_remedy(tmp_path: Path, name: str, content: str) -> None:
    checkpoints = Checkpoints(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=f"{name} is damaged.*remove {tmp_path}"):
        _ = checkpoints.load(World()), checkpoints.used_s()


def test_the_heartbeat_outlives_the_process(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.used_s() == {}
    checkpoints.beat({"train": 0.0, "warm-up": 2.0})
    checkpoints.beat({"train": 0.1, "warm-up": 2.0})  # too soon to be written
    assert Checkpoints(tmp_path).used_s() == {"train": 0.0, "warm-up": 2.0}
    checkpoints.beat({"train": 5.25, "warm-up": 2.0})
    assert Checkpoints(tmp_path).used_s() == {"train": 5.25, "warm-up": 2.0}
