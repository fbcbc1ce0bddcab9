"""Corrections go to matrices whose error has a few large directions, where bytes are cheap."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pgolf.distributed import World
from pgolf.quant.codes import IntTensor
from pgolf.quant.corrections import worth_correcting
from pgolf.quant.engine import quantize_weights
from pgolf.quant.rules import Rule
from tests.quant.made import problem
from tests.two_workers import run_in_two_workers

ROWS, COLUMNS, BITS = 60, 80, 6
# By the rate of 6.02 dB a bit: the loss of 1 that all matrices share, for a byte.
PRICE = 8 * 2 * 0.693 / (ROWS * COLUMNS)
Problems = tuple[dict[str, Tensor], dict[str, Tensor], dict[str, IntTensor]]


def problems() -> Problems:
    """Codes by GPTQ, and some that have lost two directions, too."""
    names = ("random", "planted", "exact", "unread")
    made = {name: problem(ROWS, COLUMNS, seed=index) for index, name in enumerate(names)}
    weights = {name: weight for name, (weight, _) in made.items()}
    hessians = {name: hessian for name, (_, hessian) in made.items()}
    codes = quantize_weights(weights, hessians, [Rule(pattern="*", bits=BITS)], World()).tensors
    found = {name: value for name, value in codes.items() if isinstance(value, IntTensor)}
    generator = torch.Generator().manual_seed(0)
    for name in ("planted", "unread"):
        left = torch.randn(ROWS, 2, generator=generator)
        weights[name] += 0.3 * left @ torch.randn(2, COLUMNS, generator=generator)
    weights["exact"] = found["exact"].dequantize()
    hessians["unread"] = torch.zeros(COLUMNS, COLUMNS)
    return weights, hessians, found


def chosen(world: World, price: float = PRICE, loss: float = 1.0) -> list[str]:
    weights, hessians, found = problems()
    losses = {name: loss for name in found}
    return worth_correcting(weights, hessians, found, losses, price, 2, 4, world)


def test_a_planted_error_is_worth_its_bytes_and_a_random_one_is_not() -> None:
    assert chosen(World()) == ["planted"]


@pytest.mark.parametrize(("price", "loss"), [(1e3 * PRICE, 1.0), (PRICE, 1e-3)])
def test_bytes_may_be_too_dear(price: float, loss: float) -> None:
    assert chosen(World(), price, loss) == []


def test_where_bytes_are_free_all_that_helps_is_taken() -> None:
    assert chosen(World(), 0.0) == ["planted", "random"]


@pytest.mark.slow
def test_the_number_of_ranks_changes_nothing() -> None:
    assert run_in_two_workers(chosen) == [["planted"]] * 2
