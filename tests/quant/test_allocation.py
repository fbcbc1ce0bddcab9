"""Bytes among tensors: as good as trying everything, within the budget, and all of it used."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pgolf.quant.allocation import Curve, allocate, next_budget

STEPS = 2.0 ** (np.arange(-4, 5) / 2)


def curves(seed: int, count: int = 4) -> dict[str, Curve]:
    """Of tensors of different size and importance: bits fall with the step, the loss rises."""
    generator = np.random.default_rng(seed)
    made = {}
    for index in range(count):
        size, deviation, loss = np.exp(generator.normal(size=3) * (1.0, 0.7, 2.0))
        bits = np.log2(1 + deviation / STEPS)
        made[f"m{index}"] = Curve(STEPS, 1000 * size * bits, loss * STEPS**2)
    return made


def least_loss(made: dict[str, Curve], budget: float) -> float:
    """The best of all choices of points."""
    losses = [
        sum(curve.losses[at] for curve, at in zip(made.values(), points, strict=True))
        for points in itertools.product(range(len(STEPS)), repeat=len(made))
        if sum(c.bytes[at] for c, at in zip(made.values(), points, strict=True)) <= budget
    ]
    return float(min(losses))


def ends(made: dict[str, Curve]) -> tuple[float, float]:
    """Bytes of the coarsest and of the finest steps."""
    return sum(c.bytes[-1] for c in made.values()), sum(c.bytes[0] for c in made.values())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("part", [0.05, 0.3, 0.8])
def test_no_choice_of_points_is_better(seed: int, part: float) -> None:
    made = curves(seed)
    least, most = ends(made)
    budget = least + part * (most - least)
    found = allocate(made, budget)
    assert 0.999999 * budget < found.bytes <= budget and found.price > 0
    assert found.loss <= least_loss(made, budget) * (1 + 1e-9)
    # And no better than what a price of bytes allows at all (weak duality).
    bound = sum(float((c.losses + found.price * c.bytes).min()) for c in made.values())
    assert found.loss >= bound - found.price * budget - 1e-9
    sums = [curve.at(found.steps[name]) for name, curve in made.items()]
    assert (found.bytes, found.loss) == pytest.approx(tuple(map(sum, zip(*sums, strict=True))))


def test_the_finest_steps_where_all_fits_cost_nothing() -> None:
    made = curves(0)
    found = allocate(made, ends(made)[1])
    assert found.price == 0 and set(found.steps.values()) == {STEPS[0]}
    assert allocate(made, 1e12) == found


def test_the_coarsest_steps_where_nothing_fits() -> None:
    made = curves(0)
    least, _ = ends(made)
    for budget in (0.99 * least, 0.0, -5.0):
        found = allocate(made, budget)
        assert set(found.steps.values()) == {STEPS[-1]}
        assert found.bytes == pytest.approx(least)


def test_a_tensor_that_matters_more_gets_more_bytes() -> None:
    one = curves(0, 1)["m0"]
    made = {"light": one, "heavy": Curve(STEPS, one.bytes, 8 * one.losses)}
    found = allocate(made, 0.5 * ends(made)[1])
    assert found.steps["heavy"] < found.steps["light"]


def real_size(predicted: float) -> int:
    """What an encoder might make of it."""
    return round(1.03 * predicted + 3_000 - 40 * np.sin(predicted))


def test_budgets_lead_to_the_aim_in_a_few_trials() -> None:
    for aim in (20_000.0, 300_000.0, 4_000_000.0):
        tried: list[tuple[float, int]] = []
        for _ in range(4):
            budget = next_budget(aim, tried)
            tried.append((budget, real_size(budget)))
        assert min(abs(size - aim) for _, size in tried) < 45
        assert tried[0][0] == aim


def test_trials_around_the_aim_are_bracketed() -> None:
    tried = [(90.0, 99), (80.0, 88), (70.0, 70)]
    assert next_budget(98.0, tried) == pytest.approx(90 - 10 / 11)
    assert next_budget(86.0, tried) == pytest.approx(80 - 2 / (18 / 10))
    assert next_budget(86.0, [(80.0, 88), (80.0, 88)]) == 78.0
