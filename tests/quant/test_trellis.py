"""Trellis codes: against all paths, against the scalar quantizers that they replace, and limits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pgolf.quant import trellis
from pgolf.quant.trellis import trellis_sweep
from pgolf.quant.trellis_decode import TAPS, reconstruct
from pgolf.shipped import EVALUATE_MODULES, closure
from tests.quant.correlated import entropy, gptq, hessian, inverse_factor, output_error

STATES = sorted(TAPS)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one(
    weight: Tensor, factor: Tensor, scale: float, bits: int, states: int, penalty: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Codes and weights of one matrix with one step for all rows."""
    scales = torch.full((1, len(weight)), scale)
    codes = trellis_sweep(weight[None], factor[None], scales, bits, states, penalty)[0]
    return codes, reconstruct(codes, states).double() * scales[0].double()[:, None]


@pytest.mark.parametrize("states", STATES)
def test_no_other_codes_are_better(states: int) -> None:
    """Without a Hessian Viterbi's algorithm is exact: all codes of 2 bits are tried."""
    weight = normal(20, 6, seed=states)
    codes, found = one(weight, torch.eye(6, dtype=torch.float64), 1.0, 2, states)
    every = torch.tensor(list(itertools.product([-1, 0, 1], repeat=6)), dtype=torch.int8)
    least = (weight[:, None] - reconstruct(every, states)).square().sum(-1).amin(1)
    torch.testing.assert_close((weight - found).square().sum(1), least)
    assert codes.dtype == torch.int8 and codes.abs().max() == 1


def test_a_penalty_finds_the_least_cost() -> None:
    weight, penalty = normal(20, 6, seed=3), 0.3
    _, found = one(weight, torch.eye(6, dtype=torch.float64), 0.7, 2, 4, penalty)
    every = torch.tensor(list(itertools.product([-1, 0, 1], repeat=6)), dtype=torch.int8)
    numbers = reconstruct(every, 4).double()
    units = weight / torch.tensor(0.7).double()
    variance = units.square().mean(1)[:, None]

    def cost(error: Tensor, number: Tensor) -> Tensor:
        bits = number.square().sum(-1) / (2 * math.log(2) * variance)
        return error.square().sum(-1) + penalty * bits

    least = cost(units[:, None] - numbers, numbers[None]).amin(1)
    own = found / torch.tensor(0.7).double()
    torch.testing.assert_close(cost((units - own)[:, None], own[:, None])[:, 0], least)


def uniform_error(weight: Tensor, rate: float) -> float:
    """Mean squared error of uniform rounding whose codes have this entropy."""
    low, high = 1e-3, 10.0
    for _ in range(40):
        middle = math.sqrt(low * high)
        above = entropy((weight / middle).round()) > rate
        low, high = (middle, high) if above else (low, middle)
    return float((weight - (weight / low).round() * low).square().mean())


# dB at equal entropy over uniform rounding on 100,000 Gaussian numbers; without bounds on states
# and rate 1.53 are possible. Measured: 0.97, 1.04, 1.10, 1.15 at 3.3 bits.
@pytest.mark.parametrize(("states", "least"), [(4, 0.9), (8, 0.97), (16, 1.03), (32, 1.08)])
def test_gain_over_uniform_rounding(states: int, least: float) -> None:
    weight = normal(500, 200)
    codes, found = one(weight, torch.eye(200, dtype=torch.float64), 0.42, 6, states, 0.1)
    rate = entropy(codes)
    assert 3.2 < rate < 3.4 and abs(float(codes.float().mean())) < 0.02
    gain = 10 * math.log10(uniform_error(weight, rate) / float((weight - found).square().mean()))
    assert least < gain < 1.53


def test_more_states_leave_less_error() -> None:
    weight, identity = normal(60, 150), torch.eye(150, dtype=torch.float64)
    errors = [
        float((weight - one(weight, identity, 0.42, 6, states)[1]).square().mean())
        for states in (4, 16, 64, 256)
    ]
    assert all(more < 0.99 * fewer for fewer, more in itertools.pairwise(errors))


def test_a_penalty_pays_at_low_rates() -> None:
    weight, identity = normal(300, 100), torch.eye(100, dtype=torch.float64)
    gains = []
    for penalty in (0.0, 0.1):
        codes, found = one(weight, identity, 1.0, 6, 8, penalty)
        error = float((weight - found).square().mean())
        gains.append(10 * math.log10(uniform_error(weight, entropy(codes)) / error))
    assert gains[1] > gains[0] + 0.1


@pytest.mark.parametrize("spread", [0.0, 0.7])
def test_gain_over_gptq_at_equal_entropy(spread: float) -> None:
    weight, moments = normal(96, 160), hessian(160, 1, spread=spread)
    factor = inverse_factor(moments)
    codes, found = one(weight, factor, 0.42, 7, 8, 0.1)
    rate, error = entropy(codes), output_error(weight - found, moments)
    plain = gptq_error(weight, moments, factor, rate)
    # Measured 1.08, and 4.08 where columns differ: light ones give way to heavy ones.
    assert 10 * math.log10(plain / error) > (3.0 if spread else 0.9)
    blind, wrong = one(weight, torch.eye(160, dtype=torch.float64), 0.42, 7, 8, 0.1)
    ratio = output_error(weight - wrong, moments) / error
    assert entropy(blind) > rate - 0.03 and 10 * math.log10(ratio) > 2.5  # measured 3.7 and 6.7


def gptq_error(weight: Tensor, moments: Tensor, factor: Tensor, rate: float) -> float:
    """Of plain GPTQ at the step where its codes have this entropy."""
    low, high = 0.2, 1.0
    for _ in range(12):
        middle = math.sqrt(low * high)
        above = entropy(gptq(weight, factor, middle)) > rate
        low, high = (middle, high) if above else (low, middle)
    return output_error(weight - gptq(weight, factor, low) * low, moments)


def test_reading_ships_no_encoder() -> None:
    modules = closure([*EVALUATE_MODULES, "pgolf.quant.codes"])
    assert "pgolf.quant.trellis_decode" in modules
    assert not modules & {"pgolf.quant.trellis", "pgolf.quant.lowrank"}


def problem(batch: int, rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    weight = normal(batch, rows, columns)
    factor = torch.stack([inverse_factor(hessian(columns, seed)) for seed in range(batch)])
    return weight, factor, 0.3 + 0.3 * normal(batch, rows, seed=9).abs()


def test_matrices_of_a_batch_and_rows_do_not_matter_to_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weight, factor, scale = problem(3, 10, 40)
    together = trellis_sweep(weight, factor, scale, 5, 8, 0.1)
    monkeypatch.setattr(trellis, "MAX_ELEMENTS", 3 * 8 * 40 * 4)  # four rows at a time
    assert torch.equal(trellis_sweep(weight, factor, scale, 5, 8, 0.1), together)
    for index in range(3):
        alone = [value[index : index + 1] for value in (weight, factor, scale)]
        assert torch.equal(trellis_sweep(*alone, 5, 8, 0.1)[0], together[index])


def test_blocks_cost_little(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, moments = normal(64, 128), hessian(128, 2)
    factor = inverse_factor(moments)

    def error(block: int, ahead: int) -> float:
        monkeypatch.setattr(trellis, "BLOCK", block)
        monkeypatch.setattr(trellis, "AHEAD", ahead)
        return output_error(weight - one(weight, factor, 0.42, 6, 8)[1], moments)

    whole = error(128, 0)
    assert error(128, 64) == whole
    assert 0.99 < error(32, 32) / whole < 1.02
    assert error(32, 0) / whole > 1.02
    assert error(1, 0) / whole > 1.1  # a choice at each column: no trellis is left


def test_errors_leave_a_block_as_in_gptq(monkeypatch: pytest.MonkeyPatch) -> None:
    """With blocks of one column there is no search: round on the grid of the state, pass on."""
    monkeypatch.setattr(trellis, "BLOCK", 1)
    monkeypatch.setattr(trellis, "AHEAD", 0)
    weight, factor, scale = problem(1, 12, 30)
    codes = trellis_sweep(weight, factor, scale, 6, 4, 0.0)
    left = weight[0] / scale[0][:, None]
    for column in range(30):
        offset = reconstruct(codes[0, :, : column + 1], 4)[:, -1] - codes[0, :, column]
        code = (left[:, column] - offset).round().clamp(-31, 31)
        assert torch.equal(code.to(torch.int8), codes[0, :, column])
        error = (left[:, column] - code - offset) / factor[0, column, column]
        left = left - error[:, None] * factor[0, column]


CASES: dict[str, Callable[[Tensor], Tensor]] = {
    "zeros": torch.zeros_like,
    "constant": lambda w: torch.full_like(w, 0.3),
    "huge": lambda w: w * 1e6,
    "tiny": lambda w: w * 1e-9,
    "one outlier": lambda w: w.index_put((torch.tensor([0]), torch.tensor([3])), w.new_tensor(1e4)),
    "one column": lambda w: w[:, :1],
    "one row": lambda w: w[:1],
}


@pytest.mark.parametrize("bits", [2, 8])
@pytest.mark.parametrize("name", CASES)
def test_extremes_stay_on_the_grid(name: str, bits: int) -> None:
    weight = CASES[name](normal(4, 24))
    factor = inverse_factor(hessian(weight.size(1), 0))
    codes, found = one(weight, factor, 0.5, bits, 8, 0.1)
    assert codes.shape == weight.shape and codes.abs().max() <= 2 ** (bits - 1) - 1
    assert torch.isfinite(found).all()
    if name in ("zeros", "tiny"):
        assert found.abs().max() <= 0.125 + 0.5  # next to 0 in every state
