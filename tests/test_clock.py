"""The clock against hand-counted seconds: budgets, running phases, time used before."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf.clock import Clock


class Timer:
    """A timer that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_running_phase_counts_and_an_ended_one_stays() -> None:
    timer = Timer()
    clock = Clock({"train": 10.0}, now=timer)
    timer.now_s += 5.0  # outside of phases nothing is charged
    with clock.phase("warm-up", "train"):
        timer.now_s += 2.0
        assert clock.seconds("warm-up") == 2.0 and clock.left_s("train") == 8.0
    timer.now_s += 5.0
    with clock.phase("train", "train"):
        timer.now_s += 3.0
    with clock.phase("score", "diagnostic"):
        timer.now_s += 1.0
    assert clock.seconds("warm-up") == 2.0 and clock.seconds("train") == 3.0
    assert clock.charged_s("train") == 5.0 and clock.left_s("train") == 5.0
    assert clock.charged_s("diagnostic") == 1.0 and clock.left_s("diagnostic") == math.inf
    assert clock.seconds("never") == 0.0


def test_a_phase_that_raises_is_charged() -> None:
    timer = Timer()
    clock = Clock({}, now=timer)
    with pytest.raises(KeyError), clock.phase("train", "train"):
        timer.now_s += 4.0
        raise KeyError
    assert clock.charged_s("train") == 4.0
    with clock.phase("other", "train"):  # and the clock is free again
        timer.now_s += 1.0
    assert clock.charged_s("train") == 5.0


def test_the_device_is_idle_at_both_edges() -> None:
    timer = Timer()

    def synchronize() -> None:
        timer.now_s += 1.0  # work that was queued before the edge

    clock = Clock({}, synchronize, timer)
    with clock.phase("train", "train"):
        timer.now_s += 2.0
    assert clock.seconds("train") == 3.0  # the work queued inside, not that from before


def test_phases_do_not_nest() -> None:
    clock = Clock({})
    with clock.phase("a", "train"), pytest.raises(AssertionError), clock.phase("b", "train"):
        pass


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.integers(0, 1000))))
def test_charges_add_up_over_phases_and_earlier_use(parts: list[tuple[str, bool, int]]) -> None:
    timer = Timer()
    clock = Clock({"budget": 7.0}, now=timer)
    for name, earlier, seconds in parts:
        if earlier:
            clock.add(name, "budget", seconds)
        else:
            with clock.phase(name, "budget"):
                timer.now_s += seconds
    total = sum(seconds for _, _, seconds in parts)
    assert clock.charged_s("budget") == total == clock.seconds("a") + clock.seconds("b")
    assert clock.left_s("budget") == 7.0 - total
