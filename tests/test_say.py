"""What is said: on the terminal and in the log, by the main rank alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pgolf.say import Say


def test_a_line_is_printed_and_kept_with_the_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    say = Say(tmp_path / "log.txt")
    say("train: 3 steps é")
    say("done")
    assert capsys.readouterr().err == "train: 3 steps é\ndone\n"
    first, second = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  train: 3 steps é", first)
    assert second.endswith("  done")


def test_other_ranks_are_silent_but_keep_their_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    say = Say(tmp_path / "log.txt", show=False)
    say("hello")
    assert not (tmp_path / "log.txt").exists()
    say.keep("Traceback: ...")
    assert "Traceback" in (tmp_path / "log.txt").read_text()
    assert capsys.readouterr().err == ""


def test_without_a_log_lines_are_printed_only(capsys: pytest.CaptureFixture[str]) -> None:
    say = Say(None)
    say("hello")
    say.keep("kept nowhere")
    assert capsys.readouterr().err == "hello\n"
