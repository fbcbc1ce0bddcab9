"""The follower forwards every line once, in order, also those written at the very end."""

from __future__ import annotations

import time

from pgolf.events import EventLog
from pgolf.tracking.follow import EventFollower


class Recorder:
    """A sink that keeps what it gets."""

    def __init__(self, fail_at: int | None = None, delay_s: float = 0.0) -> None:
        self.steps: list[int] = []
        self._fail_at, self._delay_s = fail_at, delay_s

    def check(self): ...

    def start(self, run_id, name, config, run_folder): ...

    def finish(self, result): ...

    def log(self, event):
        if event["step"] == self._fail_at:
            raise RuntimeError("boom")
        time.sleep(self._delay_s)
        self.steps.append(event["step"])


def test_follower_forwards_all_lines_in_order(tmp_path):
    path, sink = tmp_path / "events.jsonl", Recorder()
    follower = EventFollower(path, [sink])
    follower.start()  # before the file exists
    log = EventLog(path)
    for step in range(200):
        log.emit("train_step", "train", step=step)
    time.sleep(0.4)
    for step in range(200, 230):
        log.emit("train_step", "train", step=step)
    assert follower.stop(timeout_s=5.0)
    assert sink.steps == list(range(230))


def test_follower_waits_for_the_rest_of_a_line(tmp_path):
    path, sink = tmp_path / "events.jsonl", Recorder()
    path.write_text('{"step": 1}\n{"st')
    with EventFollower(path, [sink]):
        time.sleep(0.4)
        assert sink.steps == [1]
        with open(path, "a") as file:
            file.write('ep": 2}\nnot json\n{"step": 3}\n{"step": 4')
    assert sink.steps == [1, 2, 3]


def test_failing_sink_is_dropped_with_one_warning(tmp_path):
    path, lines = tmp_path / "events.jsonl", []
    bad, good = Recorder(fail_at=2), Recorder()
    path.write_text("".join(f'{{"step": {i}}}\n' for i in range(6)))
    with EventFollower(path, [bad, good], lines.append):
        pass
    assert bad.steps == [0, 1] and good.steps == list(range(6))
    assert len(lines) == 1 and "boom" in lines[0]


def test_stop_gives_up_on_a_slow_sink(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"step": 0}\n' * 50)
    follower = EventFollower(path, [Recorder(delay_s=0.2)])
    follower.start()
    began = time.monotonic()
    assert not follower.stop(timeout_s=0.3)
    assert time.monotonic() - began < 1.0


def test_stop_without_a_file_or_start_returns(tmp_path):
    follower = EventFollower(tmp_path / "events.jsonl", [])
    assert follower.stop()
    follower = EventFollower(tmp_path / "events.jsonl", [])
    follower.start()
    assert follower.stop(timeout_s=2.0)
