"""Bytes among tensors: which step of the grid for each, so that the loss is least for a size.

Each tensor has a curve of bytes and loss over steps. The best choice for a price of a byte takes
of each curve the point with the least loss + price * bytes (Shoham and Gersho, 1988). The price is
found by bisection; what is left of the budget then goes into the tensors between two points.
Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

BISECTIONS = 60
CHEAPEST, DEAREST = 1e-18, 1e3  # nats a token for a byte: less and more than there can be


@dataclass(frozen=True)
class Curve:
    """A tensor at every step that may be chosen, from fine to coarse; in between it is straight.

    Args:
        steps: distance of two codes, as a part of the matrix's root mean square, ascending.
        bytes: of the codes at each step.
        losses: nats a token that each step adds.
    """

    steps: np.ndarray
    bytes: np.ndarray
    losses: np.ndarray

    def best(self, price: float) -> float:
        """The step of the best point where a byte costs so many nats a token."""
        return float(self.steps[np.argmin(self.losses + price * self.bytes)])

    def at(self, step: float) -> tuple[float, float]:
        """(bytes, loss) at any step, by its logarithm."""
        where, points = math.log(step), np.log(self.steps)
        return (
            float(np.interp(where, points, self.bytes)),
            float(np.interp(where, points, self.losses)),
        )


@dataclass(frozen=True)
class Allocation:
    """A step for each tensor.

    Args:
        steps: by name.
        bytes, loss: of all of them, by their curves.
        price: nats a token that a byte is worth here; 0 where the finest steps fit.
    """

    steps: dict[str, float]
    bytes: float
    loss: float
    price: float


def allocate(curves: Mapping[str, Curve], budget: float) -> Allocation:
    """The least loss within a budget of bytes; the coarsest steps where not even these fit."""
    finest = _allocation(curves, {name: float(curve.steps[0]) for name, curve in curves.items()})
    if finest.bytes <= budget:
        return finest

    def at_price(log_price: float) -> Allocation:
        price = math.exp(log_price)
        return _allocation(curves, {n: c.best(price) for n, c in curves.items()}, price)

    def between(part: float) -> Allocation:
        steps = {name: step ** (1 - part) * above.steps[name] ** part
                 for name, step in below.steps.items()}  # fmt: skip
        return _allocation(curves, steps, above.price)

    cheap, dear = _bisected(
        lambda value: at_price(value).bytes <= budget, math.log(CHEAPEST), math.log(DEAREST)
    )
    below, above = at_price(cheap), at_price(dear)
    if above.bytes > budget:
        return above
    return between(_bisected(lambda part: between(part).bytes <= budget, 0.0, 1.0)[1])


def _allocation(
    curves: Mapping[str, Curve], steps: dict[str, float], price: float = 0.0
) -> Allocation:
    sums = [curves[name].at(step) for name, step in steps.items()]
    return Allocation(steps, sum(size for size, _ in sums), sum(loss for _, loss in sums), price)


def _bisected(fits: Callable[[float], bool], low: float, high: float) -> tuple[float, float]:
    """Next to each other, the last value that does not fit and the first that does."""
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if fits(middle):
            high = middle
        else:
            low = middle
    return low, high


def next_budget(aim: float, tried: Sequence[tuple[float, int]]) -> float:
    """What to allocate so that the real size comes out at the aim.

    Args:
        tried: (bytes by the curves, real bytes) of what was tried so far.
    """
    if not tried:
        return aim
    over = sorted(pair for pair in tried if pair[1] > aim)
    under = sorted((pair for pair in tried if pair[1] <= aim), reverse=True)
    near = (over or under)[:2]
    if over and under:
        near = sorted((over[0], under[0]), key=lambda pair: abs(pair[1] - aim))
    predicted, size = near[0]
    others = [pair for pair in near if pair[0] != predicted]
    # What comes on top of the curves is mostly the same at any size: code, names, fp16.
    slope = 1.0
    if others:
        slope = (others[0][1] - size) / (others[0][0] - predicted)
    return predicted + (aim - size) / min(max(slope, 0.5), 2.0)
