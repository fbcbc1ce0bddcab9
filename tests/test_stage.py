"""The cache of stages: whole or absent, damage is found and named, one maker at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgolf import stage as stage_module
from pgolf.errors import UserError
from pgolf.stage import DONE, SCRATCH, Stage, outside_code, stage_key

INFO = {"seconds": 1.5, "score": {"bpb": 1.25}, "epochs": [1, 2]}

# Holds the lock, tells so, waits for a line; then publishes, or goes on until it is killed.
MAKER = """
import sys
from pathlib import Path
from pgolf.stage import Stage
stage = Stage(Path(sys.argv[1]), "train", "key")
with stage.lock():
    (stage.work / "weights.bin").write_bytes(b"x" * 1000)
    print("working", flush=True)
    sys.stdin.readline()
    stage.publish({"made_by": "the first"})
"""


def start_maker(root: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", MAKER, str(root)]
    maker = subprocess.Popen(command, stdin=-1, stdout=-1, text=True)
    assert maker.stdout is not None and maker.stdout.readline() == "working\n"
    return maker


def publish(root: Path, said: list[str] | None = None) -> Stage:
    stage = Stage(root, "train", "key", (said if said is not None else []).append)
    with stage.lock():
        (stage.work / "folder").mkdir(exist_ok=True)
        (stage.work / "weights.bin").write_bytes(bytes(range(200)))
        (stage.work / "folder" / "notes.txt").write_text("notes")
        stage.publish(INFO)
    return stage


def test_a_published_stage_is_found_with_its_information(tmp_path: Path) -> None:
    stage = publish(tmp_path)
    assert stage.find() == INFO and not stage.work.exists()
    record = json.loads((stage.folder / DONE).read_text())
    assert set(record["files"]) == {"weights.bin", "folder/notes.txt"}
    assert record["files"]["weights.bin"]["bytes"] == 200


def test_publish_returns_what_find_will(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "train", "key")
    with stage.lock():
        info = stage.publish({"pair": (1, 2), "by_epoch": {10: 0.5, 9: 0.25}})
    assert info == stage.find() == {"pair": [1, 2], "by_epoch": {"10": 0.5, "9": 0.25}}


def test_an_unfinished_stage_is_not_found_and_keeps_its_work(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "train", "key")
    with stage.lock():
        (stage.work / "checkpoint.pt").write_bytes(b"x")
    again = Stage(tmp_path, "train", "key")
    with again.lock():
        assert again.find() is None
        assert (again.work / "checkpoint.pt").exists()


def test_a_killed_maker_leaves_nothing_that_counts_and_frees_the_lock(tmp_path: Path) -> None:
    maker = start_maker(tmp_path)
    maker.send_signal(signal.SIGKILL)
    maker.communicate()
    said: list[str] = []
    stage = Stage(tmp_path, "train", "key", said.append)
    with stage.lock():
        assert stage.find() is None and said == []
        assert (stage.work / "weights.bin").exists()


def test_a_maker_killed_while_publishing_leaves_nothing_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(source: Path, target: Path) -> None:
        raise Killed

    monkeypatch.setattr(stage_module.os, "replace", killed)
    with pytest.raises(Killed):
        publish(tmp_path)
    monkeypatch.undo()
    assert Stage(tmp_path, "train", "key").find() is None
    assert publish(tmp_path).find() == INFO


def test_partial_files_of_a_killed_writer_are_not_published(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "train", "key")
    with stage.lock():
        (stage.work / ".checkpoint-3-rank0.pt.4711.partial").write_bytes(b"x" * 100)
        (stage.work / "weights.bin").write_bytes(b"x")
        stage.publish({})
    assert sorted(os.listdir(stage.folder)) == [DONE, "weights.bin"]


def test_what_a_stage_continues_from_is_no_part_of_the_entry_and_goes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(folder: Path, **options: bool) -> None:
        raise Killed

    stage = Stage(tmp_path, "train", "key")
    with stage.lock():
        (stage.work / SCRATCH).mkdir()
        (stage.work / SCRATCH / "checkpoint.json").write_bytes(b"{}")
        (stage.work / "weights.bin").write_bytes(b"x")
        monkeypatch.setattr(stage_module.shutil, "rmtree", killed)
        with pytest.raises(Killed):  # until the entry stands, nothing of it is lost
            stage.publish(INFO)
    monkeypatch.undo()
    assert Stage(tmp_path, "train", "key").find() == INFO
    assert list(json.loads((stage.folder / DONE).read_text())["files"]) == ["weights.bin"]


def test_another_process_waits_and_reuses(tmp_path: Path) -> None:
    maker = start_maker(tmp_path)
    said: list[str] = []
    stage = Stage(tmp_path, "train", "key", lambda text: (said.append(text), finish(maker)))
    with stage.lock():
        assert stage.find() == {"made_by": "the first"}
        stage.discard_work()
    assert len(said) == 1 and "waiting" in said[0]


def finish(maker: subprocess.Popen[str]) -> None:
    """Let the maker go on: called when this process says that it waits."""
    assert maker.stdin is not None and maker.poll() is None
    maker.stdin.write("\n")
    maker.stdin.flush()


def test_a_lock_in_an_impossible_place_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match="cache"), Stage(tmp_path / "cache", "train", "key").lock():
        pass


def remove(folder: Path, name: str) -> None:
    (folder / name).unlink()


def shorten(folder: Path, name: str) -> None:
    os.truncate(folder / name, 3)


def lengthen(folder: Path, name: str) -> None:
    with open(folder / name, "ab") as file:
        file.write(b"x")


def swap(folder: Path, name: str) -> None:
    (folder / name).write_text("[]")


@pytest.mark.parametrize("damage", [remove, shorten, lengthen, swap])
@pytest.mark.parametrize("name", ["weights.bin", "folder/notes.txt", DONE])
def test_damage_is_named_set_aside_and_rebuilt(tmp_path: Path, damage: Any, name: str) -> None:
    said: list[str] = []
    stage = publish(tmp_path, said)
    damage(stage.folder, name)
    assert stage.find() is None
    assert len(said) == 1 and name in said[0] and str(stage.folder) in said[0]
    aside = [path for path in stage.folder.parent.iterdir() if ".damaged-" in path.name]
    assert len(aside) == 1 and aside[0].name in said[0] and not stage.folder.exists()
    assert publish(tmp_path, said).find() == INFO


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_anywhere_is_noticed(tmp_path: Path, data: st.DataObject) -> None:
    said: list[str] = []
    stage = publish(tmp_path, said)
    files = sorted(path for path in stage.folder.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    # White space of the record carries no meaning: its change is no damage.
    assert (stage.find() is None and len(said) == 1) or (stage.find() == INFO and path.name == DONE)


def test_the_key_covers_settings_inputs_and_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_module, "CODE", tmp_path)
    (tmp_path / "quant").mkdir()
    (tmp_path / "quant" / "gptq.py").write_text("x = 1\n")
    (tmp_path / "score.py").write_text("y = 1\n")
    (tmp_path / "other.py").write_text("z = 1\n")

    def key(**inputs: Any) -> str:
        return stage_key("pack", ("quant", "score"), **{"train": "a", "bits": 6, **inputs})

    first = key()
    assert key() == first and key(bits=8) != first and key(train="b") != first
    assert stage_key("ttt", ("quant", "score"), train="a", bits=6) != first
    (tmp_path / "other.py").write_text("z = 2\n")
    assert key() == first
    (tmp_path / "quant" / "gptq.py").write_text("x = 2\n")
    changed = key()
    assert changed != first
    (tmp_path / "quant" / "new.py").write_text("")
    assert key() not in (first, changed)


def test_code_outside_pgolf_counts_with_its_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_rule.py").write_text("class Rule: pass\n")
    (tmp_path / "other.py").write_text("")
    (tmp_path / "my_parts").mkdir()
    for name in ("__init__", "optim", "helper"):
        (tmp_path / "my_parts" / f"{name}.py").write_text("class Mine: pass\n")
    config = {
        "_target_": "pgolf.optim.adamw.AdamW",
        "rules": [{"_target_": "my_rule.Rule"}],
        "mine": {"_target_": "my_parts.optim.Mine"},
    }
    first = outside_code(config)
    assert set(first) == {"my_rule.Rule", "my_parts.optim.Mine"}
    (tmp_path / "other.py").write_text("x = 1\n")
    assert outside_code(config) == first
    (tmp_path / "my_rule.py").write_text("class Rule: x = 1\n")
    (tmp_path / "my_parts" / "helper.py").write_text("x = 1\n")
    changed = outside_code(config)
    assert all(changed[target] != first[target] for target in first)


def test_a_misspelt_package_in_a_key_is_noticed() -> None:
    with pytest.raises(AssertionError, match="modle"):
        stage_key("train", ("modle",))


def test_the_wait_for_another_process_is_measured(tmp_path: Path) -> None:
    """It belongs to no budget: the other's seconds are charged as those of a reused stage."""
    said: list[str] = []
    first, second = (Stage(tmp_path, "train", "key", said.append) for _ in range(2))

    def wait() -> None:
        with second.lock():
            pass

    waiting = threading.Thread(target=wait)
    with first.lock():
        waiting.start()
        while not said:
            time.sleep(0.01)
        time.sleep(0.05)
    waiting.join()
    assert first.waited_s == 0.0 and second.waited_s >= 0.05
