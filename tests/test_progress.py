"""Progress without a terminal: few lines, the right counts, nothing from other ranks."""

from __future__ import annotations

import pytest

from pgolf import progress
from pgolf.progress import track


def test_one_line_at_the_end_with_count_unit_and_note(capsys: pytest.CaptureFixture[str]) -> None:
    with track("train", 3, "step") as bar:
        for loss in (3.0, 2.5, 2.25):
            bar.advance(note=f"loss {loss}")
        bar.advance(0)  # keeps the note
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("train: 3.0/3.0 step") and lines[0].endswith("loss 2.25")


def test_a_line_every_so_often(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now_s)
    with track("read", 4000, "MB") as bar:
        for _ in range(40):
            now_s += 1.0
            bar.advance(100)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "read: 1.0K/4.0K MB, 100.0 MB/s, 10 s, 30 s left"
    assert len(lines) == 5 and lines[-1] == "read: 4.0K/4.0K MB, 100.0 MB/s, 40 s"


def test_work_that_overshoots_its_total_has_nothing_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step of training ends a little after its budget."""
    now_s = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now_s)
    with track("train", 50, "s") as bar:
        now_s = 51.0
        bar.advance(51)
    assert capsys.readouterr().err.splitlines()[0].endswith("51 s, 0 s left")


def test_other_ranks_show_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with track("train", 3, show=False) as bar:
        bar.advance(3, "loss 1")
    assert capsys.readouterr().err == ""


def test_an_error_inside_is_not_hidden_by_a_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), track("train", 3) as bar:
        bar.advance()
        raise KeyError
    assert capsys.readouterr().err == ""
