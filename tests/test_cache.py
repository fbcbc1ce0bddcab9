"""What lies in the cache and what may go: by age, size or stage, and never from under a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pgolf import cache as cache_module
from pgolf.cache import Entry, add_runs, choose, entries, oldest_running, remove
from pgolf.cli import main
from pgolf.commands.cache_prune import BYTES, SECONDS, quantity
from pgolf.errors import UserError
from pgolf.stage import DONE, Stage

DAY = 86400.0


def make(root: Path, stage: str, key: str, size: int = 1000, unused_days: float = 0.0) -> Stage:
    made = Stage(root, stage, key, say=lambda text: None)
    with made.lock():
        (made.work / "weights.bin").write_bytes(b"x" * size)
        made.publish({"seconds": 1.0})
    at = time.time() - unused_days * DAY
    for path in (made.folder / DONE, made.folder):
        os.utime(path, (at, at))
    return made


def keys(found: list[Entry]) -> set[str]:
    return {entry.key for entry in found}


def test_entries_have_size_age_and_kind(tmp_path: Path) -> None:
    made = make(tmp_path, "train", "a", 1000, unused_days=3)
    (tmp_path / "compiled" / "triton").mkdir(parents=True)  # no stage
    with Stage(tmp_path, "ttt", "b").lock():
        pass
    make(tmp_path, "pack", "c").folder.rename(tmp_path / "pack" / "c.damaged-17")
    found = {entry.key: entry for entry in entries(tmp_path)}
    assert {key: entry.kind for key, entry in found.items()} == {
        "a": "finished", "b": "unfinished", "c": "damaged",
    }  # fmt: skip
    assert found["a"].bytes == 1000 + (made.folder / DONE).stat().st_size
    assert time.time() - found["a"].used == pytest.approx(3 * DAY, abs=60)
    made.find()  # a run that reuses it
    (used,) = (entry for entry in entries(tmp_path) if entry.key == "a")
    assert time.time() - used.used < 60 and time.time() - used.made > 2 * DAY


def test_runs_are_found_by_their_events(tmp_path: Path) -> None:
    make(tmp_path / "cache", "train", "a")
    for name, key in (("one", "a"), ("two", "a"), ("three", "other")):
        folder = tmp_path / "outputs" / "nano" / name
        folder.mkdir(parents=True)
        lines = [{"event": "train_step"}, {"event": "stage", "stage": "train", "key": key}]
        (folder / "events.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"key": cut')
    found = entries(tmp_path / "cache")
    add_runs(found, tmp_path / "outputs")
    assert sorted(Path(run).name for run in found[0].runs) == ["one", "two"]


def test_what_is_chosen_by_age_size_and_stage(tmp_path: Path) -> None:
    for index, (stage, key) in enumerate([("train", "a"), ("train", "b"), ("ttt", "c")]):
        make(tmp_path, stage, key, 1000, unused_days=10 - 3 * index)
    found, now = entries(tmp_path), time.time()
    each = found[0].bytes
    assert keys(choose(found, older_s=6 * DAY, now=now)) == {"a", "b"}
    assert keys(choose(found, older_s=6 * DAY, stage="ttt", now=now)) == set()
    assert keys(choose(found, stage="train", now=now)) == {"a", "b"}
    assert keys(choose(found, keep_bytes=3 * each, now=now)) == set()
    assert keys(choose(found, keep_bytes=2 * each + 100, now=now)) == {"a"}
    assert keys(choose(found, keep_bytes=0, now=now)) == {"a", "b", "c"}
    # What is too old goes first and counts no more.
    assert keys(choose(found, older_s=9 * DAY, keep_bytes=2 * each + 100, now=now)) == {"a"}


def test_removing_leaves_nothing_and_the_stage_can_be_made_again(tmp_path: Path) -> None:
    made = make(tmp_path, "train", "a")
    (entry,) = entries(tmp_path)
    assert remove(entry, None) is None
    assert not made.folder.exists() and entries(tmp_path) == []
    assert [path.name for path in (tmp_path / "train").iterdir()] == ["a.lock"]
    assert make(tmp_path, "train", "a").find() == {"seconds": 1.0}


def test_a_stage_that_is_being_made_stays(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "train", "a")
    with stage.lock():
        (stage.work / "checkpoint").write_bytes(b"x")
        (entry,) = entries(tmp_path)
        assert remove(entry, None) == "a run is making it"
        assert (stage.work / "checkpoint").exists()
    assert remove(entry, None) is None


def test_a_stage_that_was_used_after_it_was_listed_stays(tmp_path: Path) -> None:
    made = make(tmp_path, "train", "a", unused_days=9)
    (entry,) = entries(tmp_path)
    assert made.find() is not None
    assert remove(entry, None) == "it was used just now" and made.folder.exists()


RUN = """
import sys
from pathlib import Path
from pgolf.cache import in_use
with in_use(Path(sys.argv[1])):
    print("running", flush=True)
    sys.stdin.readline()
"""


def test_what_a_running_run_may_use_stays_until_it_ends(tmp_path: Path) -> None:
    make(tmp_path, "train", "old", unused_days=2)
    command = [sys.executable, "-c", RUN, str(tmp_path)]
    run = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None and run.stdout.readline() == "running\n"
    make(tmp_path, "train", "new")
    found = {entry.key: entry for entry in entries(tmp_path)}
    oldest = oldest_running(tmp_path)
    assert oldest is not None and abs(time.time() - oldest) < 60
    assert remove(found["new"], oldest) == "a run that still goes may use it"
    assert remove(found["old"], oldest) is None
    run.kill()  # the system frees its lock, whatever ended it
    run.communicate()
    assert list((tmp_path / cache_module.RUNNING).iterdir())
    assert oldest_running(tmp_path) is None
    assert not list((tmp_path / cache_module.RUNNING).iterdir())
    assert remove(found["new"], None) is None


def test_quantities_with_units() -> None:
    assert quantity("--older", "7d", SECONDS) == 7 * DAY
    assert quantity("--older", "1.5h", SECONDS) == 5400
    assert quantity("--keep-bytes", "20GB", BYTES) == 20e9
    assert quantity("--keep-bytes", "3 mb", BYTES) == 3e6
    for text in ("7", "d", "7 years", "-1d"):
        with pytest.raises(UserError, match="--older"):
            quantity("--older", text, SECONDS)


def test_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PGOLF_CACHE", str(tmp_path / "cache"))
    made = make(tmp_path / "cache", "train", "a", unused_days=8)
    make(tmp_path / "cache", "ttt", "b")
    assert main(["cache", "ls", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["entries"]
    assert [(row["stage"], row["key"]) for row in rows] == [("train", "a"), ("ttt", "b")]
    assert main(["cache", "ls"]) == 0 and "8 d" in capsys.readouterr().out
    assert main(["cache", "prune"]) == 2 and "--older" in capsys.readouterr().err
    assert main(["cache", "prune", "--stage", "trian"]) == 2
    assert "train, ttt" in capsys.readouterr().err
    assert main(["cache", "prune", "--older", "7d", "--dry-run"]) == 0
    assert "1 would go" in capsys.readouterr().out and made.folder.exists()
    assert main(["cache", "prune", "--older", "7d"]) == 0
    assert "1 removed" in capsys.readouterr().out and not made.folder.exists()


def test_what_a_run_removes_while_the_cache_is_read_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "train", "kept")
    going = tmp_path / "train" / "going.work"
    going.mkdir()
    (going / ".a.partial").write_bytes(b"x" * 10)
    real = os.walk

    def walk(folder: Path) -> list[tuple[str, list[str], list[str]]]:
        found = list(real(folder))
        (going / ".a.partial").unlink(missing_ok=True)  # between its listing and its size
        return found

    monkeypatch.setattr(os, "walk", walk)
    assert {entry.key: entry.bytes > 0 for entry in entries(tmp_path)} == {
        "kept": True,
        "going": False,
    }
    kind = cache_module._kind

    def published(path: Path) -> str | None:
        found = kind(path)
        if path == going:
            going.rename(tmp_path / "train" / "going")
        return found

    monkeypatch.setattr(cache_module, "_kind", published)
    assert keys(entries(tmp_path)) == {"kept"}


def test_ls_of_what_is_not_there_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PGOLF_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert main(["cache", "ls"]) == 0
    make(tmp_path / "cache", "train", "a")
    assert main(["cache", "ls", "--stage", "trian"]) == 2
    assert main(["cache", "ls", "--runs", "nowhere"]) == 2
    said = capsys.readouterr().err
    assert "the cache has train" in said and "nowhere is no folder" in said
