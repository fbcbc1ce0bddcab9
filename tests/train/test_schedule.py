"""Tables of values of the schedules."""

from __future__ import annotations

import pytest

from pgolf.train.schedule import ema_decay, linear_warmup, lr_warmdown, recurrence_on


@pytest.mark.parametrize(
    ("progress", "frac", "expected"),
    [(0.0, 0.72, 1.0), (0.28, 0.72, 1.0), (0.64, 0.72, 0.5), (1.0, 0.72, 0.0), (0.5, 1.0, 0.5),
     (0.9, 0.0, 1.0), (1.1, 0.5, 0.0)],
)  # fmt: skip
def test_lr_warmdown(progress: float, frac: float, expected: float) -> None:
    assert lr_warmdown(progress, warmdown_frac=frac) == pytest.approx(expected)


def test_recurrence_is_on_from_its_start() -> None:
    assert [recurrence_on(p, 0.35) for p in (0.0, 0.3499, 0.35, 1.0)] == [False, False, True, True]


def test_ema_ramp_rises_to_the_decay() -> None:
    ramp = [ema_decay(t, 0.9965, ramp=True) for t in (0, 1, 90, 10**5)]
    assert ramp == pytest.approx([0.1, 2 / 11, 0.91, 0.9965])
    assert ema_decay(0, 0.9965, ramp=False) == 0.9965


def test_linear_warmup() -> None:
    values = [linear_warmup(s, start=0.92, end=0.99, warmup_steps=10) for s in (0, 5, 10, 11)]
    assert values == pytest.approx([0.92, 0.955, 0.99, 0.99])
    assert linear_warmup(0, start=0.92, end=0.99, warmup_steps=0) == 0.99
