"""Which W&B run a run continues: that of the same run, stopped, and nobody else's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pgolf.tracking.wandb_resume import ENDS, WandbRun, claim
from pgolf.tracking.wandb_upload import is_finished


def folder(
    parent: Path, name: str, config: str = "seed: 1\n", packages: str = "2.13", steps: int = 0
) -> Path:
    """A run folder as it is when tracking starts, with some steps, the last second's in doubt."""
    run = parent / name
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(config)
    facts = {"time": name, "git": None, "packages": {"torch": packages}}
    (run / "provenance.json").write_text(json.dumps(facts))
    events: list[dict[str, Any]] = [
        {"time": float(step), "event": "train_step", "stage": "train", "step": step}
        for step in range(1, steps + 1)
    ]
    (run / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events) + '{"cut')
    return run


def stopped(parent: Path, name: str, **more: Any) -> WandbRun:
    run = claim(folder(parent, name, **more), name)
    run.release()
    return run


def test_a_stopped_run_is_continued_from_what_it_has_surely_sent(tmp_path: Path) -> None:
    stopped(tmp_path, "1", steps=10)
    found = claim(folder(tmp_path, "2"), "2")
    assert (found.id, found.resumed) == ("1", True)
    # Of what came in the last two seconds nobody knows.
    assert not found.is_new({"step": 8, "loss": 1.0}) and found.is_new({"step": 9})
    assert found.is_new({"ttt/epoch": 1})


def test_what_its_process_has_sent_is_known_if_it_lived_to_say_so(tmp_path: Path) -> None:
    stopped(tmp_path, "1", steps=10)
    (tmp_path / "1" / ENDS).write_text('{"step": 10, "ttt/epoch": 2}')
    found = claim(folder(tmp_path, "2"), "2")
    assert not found.is_new({"step": 10}) and found.is_new({"step": 11})
    assert not found.is_new({"ttt/epoch": 2}) and found.is_new({"ttt/epoch": 3})


def test_what_was_written_too_late_to_be_sent_is_sent_by_the_next(tmp_path: Path) -> None:
    """A run goes on behind its checkpoint: steps before it are in the stopped folder alone."""
    stopped(tmp_path, "1", steps=10)
    (tmp_path / "1" / ENDS).write_text('{"step": 7}')
    second = claim(folder(tmp_path, "2", steps=12), "2")
    assert second.catch_up() == [{"step": step} for step in (8, 9, 10)]
    assert not second.is_new({"step": 10}) and second.is_new({"step": 11})
    # It is stopped before it has sent any of them, and its own steps begin with the old ones.
    second.release()
    (tmp_path / "2" / ENDS).write_text("{}")
    third = claim(folder(tmp_path, "3"), "3")
    assert third.catch_up() == [{"step": step} for step in (8, 9, 10, 11, 12)]


def test_a_run_of_its_own_has_nothing_to_catch_up_with(tmp_path: Path) -> None:
    stopped(tmp_path, "1", config="seed: 2\n", steps=10)
    assert claim(folder(tmp_path, "2"), "2").catch_up() == []


def test_a_chain_of_stopped_runs_is_one_run(tmp_path: Path) -> None:
    stopped(tmp_path, "1", steps=10)
    stopped(tmp_path, "2")  # ended before it trained
    found = claim(folder(tmp_path, "3"), "3")
    assert found.id == "1" and not found.is_new({"step": 8})


@pytest.mark.parametrize("other", [{"config": "seed: 2\n"}, {"packages": "2.14"}])
def test_another_run_is_not_continued(tmp_path: Path, other: dict[str, str]) -> None:
    stopped(tmp_path, "1", steps=10)
    found = claim(folder(tmp_path, "2", **other), "2")
    assert (found.id, found.resumed) == ("2", False) and found.is_new({"step": 1})


def test_a_finished_a_running_and_a_broken_run_are_not_continued(tmp_path: Path) -> None:
    running = claim(folder(tmp_path, "1"), "1")
    assert claim(folder(tmp_path, "2"), "2").id == "2"
    running.release()
    stopped(tmp_path / "finished", "1")
    (tmp_path / "finished" / "1" / "result.json").write_text("{}")
    assert claim(folder(tmp_path / "finished", "2"), "2").id == "2"
    stopped(tmp_path / "broken", "1")
    (tmp_path / "broken" / "1" / "wandb" / "run.json").write_text('{"id": ')
    assert claim(folder(tmp_path / "broken", "2"), "2").id == "2"


def test_an_offline_part_is_sent_when_the_run_that_continues_it_is_finished(tmp_path: Path) -> None:
    stopped(tmp_path, "1", steps=10)
    stopped(tmp_path, "2", steps=5)
    parts = [tmp_path / name / "wandb" / "offline-run-x" for name in ("1", "2")]
    stopped(tmp_path, "another", config="seed: 2\n")
    (tmp_path / "another" / "result.json").write_text("{}")
    assert not any(is_finished(part) for part in parts)
    last = stopped(tmp_path, "3")
    assert last.id == "1"
    (tmp_path / "3" / "result.json").write_text("{}")
    assert all(is_finished(part) for part in parts)
