"""events.jsonl: nothing is lost or mixed, whoever writes and whenever a writer is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgolf.events import EventLog, read_events

WRITER = """
import sys
from pathlib import Path
from pgolf.events import EventLog
log = EventLog(Path(sys.argv[1]))
for step in range(200):
    log.emit("train_step", "train", step=step, text=sys.argv[2] * 20_000)
"""


def test_events_come_back_in_order_with_time_and_stage(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.emit("score", "pack", name="é\n", **{"val/bpb": 1.25})
    log.emit("stage", "pack", status="done")
    first, second = read_events(tmp_path / "events.jsonl")
    assert first["event"] == "score" and first["name"] == "é\n" and first["val/bpb"] == 1.25
    assert second["stage"] == "pack" and second["time"] >= first["time"] > 1.6e9


def test_a_log_without_a_path_drops_events() -> None:
    EventLog(None).emit("stage", "train", status="done")


def test_lines_of_two_processes_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*command, text]) for text in ("a", "b")]
    assert [writer.wait(30) for writer in writers] == [0, 0]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == 400 and {len(set(row["text"])) for row in rows} == {1}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.text(max_size=5), min_size=1, max_size=4), cut=st.integers(1, 200))
def test_whatever_is_cut_off_the_whole_lines_are_read(
    tmp_path: Path, names: list[str], cut: int
) -> None:
    path = tmp_path / "events.jsonl"
    path.unlink(missing_ok=True)
    for name in names:
        EventLog(path).emit("score", "pack", name=name)
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    whole = content[:-cut].count(b"\n")
    assert [row["name"] for row in read_events(path)] == names[:whole]


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_events(tmp_path / "none.jsonl"))


def test_a_line_that_is_no_object_is_no_event(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('[1]\n5\nnull\n{"event": "score"}\n')
    assert list(read_events(path)) == [{"event": "score"}]
