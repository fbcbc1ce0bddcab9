"""Seconds between stages, from the events of a run: what is charged for starting the workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pgolf.hardware import Devices
from pgolf.launchers import Alone
from pgolf.outcome import BUDGET_OF
from pgolf.pipeline import Run
from pgolf.say import Say

SCORES = {"load_s": 1.0, "quantized": {"seconds": 2.0}, "final": {"seconds": 3.0}}


def start_seconds(events: list[dict[str, Any]], produce_s: float, folder: Path) -> dict[str, float]:
    """Of a run whose produce job took so many seconds and whose evaluate job took 10."""
    devices = Devices("cpu", 1, "fp32", "auto", False, 1)
    run = Run({}, [], devices, Alone(), folder, folder, Say(None))
    run.clock.add("produce", "train", produce_s)
    run.clock.add("evaluate", "evaluate", 10.0)
    return run.start_seconds(events, SCORES)


def stage(name: str, seconds: float, status: str = "done") -> dict[str, Any]:
    return {"event": "stage", "stage": name, "status": status, "seconds": seconds}


TRAIN, TTT = stage("train", 20.0), stage("ttt", 5.0)
WARM_UP = {"event": "warm_up", "stage": "train", "seconds": 8.0}


@pytest.mark.parametrize(
    ("events", "produce_s", "expected"),
    [
        ([TRAIN, TTT], 30.0, 5.0),
        # Stages of the launcher, and what an earlier run took, are no part of this job.
        ([stage("tokens", 99.0), stage("train", 20.0, "reused"), TTT], 8.0, 3.0),
        # Another run made the training meanwhile, which is charged as if it were this one's.
        ([{**stage("train", 20.0, "reused"), "waited_s": 18.0}, TTT], 26.0, 3.0),
        # Compiling is charged by itself.
        ([WARM_UP, TRAIN], 30.0, 2.0),
        # A killed process trained for 12 of the 20 seconds; this one was 15 s on its way.
        (
            [{"event": "resume", "elapsed_s": 12.0, "warm_up_s": 0.0}, TRAIN],
            15.0,
            7.0,
        ),
        # It had compiled for 6 s; this one compiles for 2 s more, trains for 8 s and starts in 3.
        (
            [{"event": "resume", "elapsed_s": 12.0, "warm_up_s": 6.0}, WARM_UP, TRAIN],
            13.0,
            3.0,
        ),
        ([stage("train", 20.004)], 20.0, 0.0),  # rounding never charges less than nothing
    ],
)
def test_seconds_between_stages(
    tmp_path: Path, events: list[dict[str, Any]], produce_s: float, expected: float
) -> None:
    found = start_seconds(events, produce_s, tmp_path)
    waited = sum(event.get("waited_s", 0.0) for event in events)
    assert found == {
        "start_produce": pytest.approx(expected), "start_evaluate": 4.0, "wait": waited
    }  # fmt: skip
    assert set(found) <= set(BUDGET_OF)
