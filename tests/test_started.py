"""From when on a run is charged."""

from __future__ import annotations

import importlib

import pytest

from pgolf import started


def test_the_first_run_counts_from_the_process_and_later_ones_from_their_own_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.0)
    monkeypatch.setattr("time.process_time", lambda: 3.0)
    importlib.reload(started)
    monkeypatch.setattr("time.time", lambda: 1060.0)
    assert started.begin_run() == 997.0
    monkeypatch.setattr("time.time", lambda: 2000.0)
    assert started.begin_run() == 2000.0
