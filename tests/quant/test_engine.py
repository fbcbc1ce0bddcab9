"""The engine: one result for any number of ranks and any batch, and each choice does its work."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pgolf.distributed import World
from pgolf.quant import matrices
from pgolf.quant.codes import Codes, IntTensor
from pgolf.quant.custom import CustomQuantizer
from pgolf.quant.engine import deal, plan, quantize_weights
from pgolf.quant.rules import Rule
from tests.model.tiny import random_ids, tiny_recurrent
from tests.quant.made import output_error, problem, quantized, unasked
from tests.two_workers import run_in_two_workers

Problems = tuple[dict[str, Tensor], dict[str, Tensor]]
SHAPES = [(8, 24), (16, 24), (24, 24), (12, 40), (30, 40), (7, 40), (1, 40), (40, 1)]
MIXED = [
    Rule(pattern="m0", bits=3, grid="search"),
    Rule(pattern="m1", bits=8, grid="uniform", clip_sigmas=20.0, columns="water"),
    Rule(pattern="m2", bits=4, group_columns=7, block_size=7, rank=2, worst=1),
    Rule(pattern="m3", bits=5, rounding="entropy", penalty=0.1, clip_sigmas=20.0),
    Rule(pattern="m5", bits=5, rounding="entropy", penalty=0.1, group_columns=16),
    Rule(pattern="m4", bits=4, order="natural", rounding="trellis", columns="water"),
    Rule(pattern="m6", bits=4, grid="absmax", rounding="nearest", symmetric=False),
    Rule(pattern="*", bits=4, block_size=7, rank=2, worst=1),
]


def problems(shapes: list[tuple[int, int]] = SHAPES) -> Problems:
    """Matrices and Hessians; the first and the third share one."""
    weights, hessians = {}, {}
    for index, shape in enumerate(shapes):
        weights[f"m{index}"], hessians[f"m{index}"] = problem(*shape, seed=index)
    hessians["m2"] = hessians["m0"]
    return weights, hessians


def entropy(found: IntTensor) -> float:
    """Bits a code, order 0."""
    _, counts = np.unique(found.codes.numpy(), return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())


def assert_equal(first: Codes, second: Codes) -> None:
    assert list(first.tensors) == list(second.tensors)
    for name, value in first.tensors.items():
        other = second.tensors[name]
        assert isinstance(value, IntTensor) and isinstance(other, IntTensor)
        assert torch.equal(value.codes, other.codes), name
        assert torch.equal(value.scales, other.scales), name
        assert (value.bits, value.states) == (other.bits, other.states)
        assert value.group_columns == other.group_columns
        assert torch.equal(value.dequantize(), other.dequantize()), name


def _mixed(world: World) -> Codes:
    return quantize_weights(*problems(), MIXED, world)


@pytest.mark.parametrize("together", [1, 300, 10**9])
def test_what_is_swept_together_changes_nothing(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _mixed(World())
    monkeypatch.setattr(matrices, "TOGETHER", {"cpu": together})
    assert_equal(_mixed(World()), expected)
    weights, hessians = problems()
    for name in ("m1", "m3", "m5"):
        alone = quantize_weights({name: weights[name]}, hessians, MIXED, World())
        assert_equal(alone, Codes({name: expected.tensors[name]}))


def _packed(world: World) -> dict[str, Any]:
    found = _mixed(world).tensors
    return {
        name: (value.codes, value.scales, value.dequantize())
        for name, value in found.items()
        if isinstance(value, IntTensor)
    }


@pytest.mark.slow
def test_the_number_of_ranks_changes_nothing() -> None:
    expected = _packed(World())
    for found in run_in_two_workers(_packed):
        assert list(found) == list(expected)
        for name, parts in expected.items():
            assert all(map(torch.equal, found[name], parts)), name


def test_matrices_are_dealt_by_cost_and_stay_with_their_hessian() -> None:
    weights, hessians = problems([(32, 32)] * 6)
    jobs = plan(weights, hessians, [Rule(pattern="*")], World(), {})
    ranks = deal(jobs, 2)
    assert ranks[0] == ranks[2] and sorted(ranks) == [0, 0, 0, 1, 1, 1]
    assert deal(jobs, 1) == [0] * 6 and set(deal(jobs, 9)) == {0, 1, 2, 3, 4}


def test_a_matrix_that_saw_no_input_is_rounded_under_any_rule() -> None:
    weights, _ = problems()
    with pytest.warns(UserWarning, match="m4: calibration has seen no input"):
        found = quantize_weights({"m4": weights["m4"]}, {}, MIXED, World()).tensors["m4"]
    assert isinstance(found, IntTensor) and found.states == 0 and found.column_exponents is None
    expected = (weights["m4"] / found.scales.float()[:, None]).round().clamp(-7, 7)
    assert torch.equal(found.codes.float(), expected)


def test_a_hessian_that_fails_to_factor_leaves_its_neighbours_alone() -> None:
    weights, hessians = problems([(8, 24)] * 3 + [(8, 20)])
    hessians["m1"] = hessians["m1"] - 0.3 * torch.diag(hessians["m1"].diagonal())
    rules = [Rule(pattern="*", bits=4)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = quantize_weights(weights, hessians, rules, World())
    assert caught and all("m1: the Hessian is not positive" in str(w.message) for w in caught)
    for name in ("m0", "m3"):
        alone = quantize_weights({name: weights[name]}, hessians, rules, World())
        assert_equal(alone, Codes({name: found.tensors[name]}))


# -- grids -----------------------------------------------------------------------------------


def test_absmax_ends_at_the_largest_weight() -> None:
    weight, _ = problem(9, 50, seed=0)
    found = quantized(weight, None, bits=5, grid="absmax", rounding="nearest")
    expected = weight.abs().amax(dim=1) / 15
    torch.testing.assert_close(found.scales.float(), expected, rtol=2**-10, atol=0)
    assert (found.codes.abs().amax(dim=1) == 15).all()


def test_uniform_is_one_step_for_the_matrix() -> None:
    weight, hessian = problem(9, 50, seed=0)
    found = quantized(weight, hessian, bits=8, grid="uniform", clip_sigmas=20.0)
    expected = 20 * float(weight.double().square().mean().sqrt()) / 127
    assert found.scales.unique().tolist() == [pytest.approx(expected, rel=2**-10)]


@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_searched_grids_have_smaller_errors_than_those_that_end_at_the_largest_weight(
    bits: int, rounding: str
) -> None:
    weight, hessian = problem(64, 96, seed=bits)
    searched = quantized(weight, hessian, bits=bits, grid="search", rounding=rounding)
    largest = quantized(weight, hessian, bits=bits, grid="absmax", rounding=rounding)
    assert (searched.scales <= largest.scales).all()
    errors = [output_error(weight, found, hessian) for found in (searched, largest)]
    assert errors[0] < 0.9 * errors[1]


def test_a_search_looks_at_the_columns_that_matter() -> None:
    # The outlier of each row is in a column that hardly has any input.
    weight, _ = problem(16, 40, seed=0)
    weight[:, 3] = 30.0
    hessian = torch.diag(torch.full((40,), 10.0))
    hessian[3, 3] = 1e-6
    found = quantized(weight, hessian, bits=4, grid="search", rounding="nearest", damping=0.0)
    ends = weight.abs().amax(dim=1)
    assert (found.scales.float() * 7 < 0.5 * ends).all()


@pytest.mark.parametrize("grid", ["absmax", "sdclip", "search", "uniform"])
def test_asymmetric_grids_suit_rows_that_are_not_around_0(grid: str) -> None:
    weight, hessian = problem(16, 64, seed=1)
    weight = 0.1 * weight + torch.linspace(-1, 1, 16)[:, None]
    keys: dict[str, Any] = {"bits": 4, "grid": grid, "clip_sigmas": 4.0}
    found = [quantized(weight, hessian, symmetric=on, **keys) for on in (False, True)]
    errors = [output_error(weight, value, hessian) for value in found]
    assert errors[0] < 0.25 * errors[1]


@pytest.mark.parametrize("value", [0.0, 0.37, -2.5, 1e-7, 3e4])
def test_constant_rows_keep_their_value_on_asymmetric_grids(value: float) -> None:
    for grid in ("absmax", "sdclip"):
        keys: dict[str, Any] = {"grid": grid, "rounding": "nearest", "symmetric": False}
        found = quantized(torch.full((3, 5), value), None, **keys).dequantize()
        assert (found - value).abs().max() <= max(2.0**-25, abs(value) * 2.0**-14)


# -- columns and rounding --------------------------------------------------------------------


def uneven(rows: int, columns: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs with a decaying spectrum and channels of very different size, as in real layers."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(columns, columns, generator=generator)).Q
    spectrum = 1.0 / torch.arange(1, columns + 1)
    size = torch.exp(0.7 * torch.randn(columns, generator=generator))
    hessian = size[:, None] * ((basis * spectrum) @ basis.T) * size
    return torch.randn(rows, columns, generator=generator), hessian


def rate(weight: Tensor, hessian: Tensor, **keys: Any) -> float:
    """Bits a weight for an error of 1: entropy, and a bit for each 6.02 dB of error."""
    found = quantized(weight, hessian, **keys)
    size = output_error(torch.zeros_like(weight), _plain(weight), hessian)
    relative = output_error(weight, found, hessian) / size
    return entropy(found) + 0.5 * math.log2(relative)


def _plain(weight: Tensor) -> IntTensor:
    """The weight itself as what somebody has found."""
    return type("Plain", (), {"dequantize": lambda self: weight})()  # type: ignore[return-value]


def test_water_filled_columns_have_equal_pivots_and_save_bits() -> None:
    weight, hessian = uneven(128, 96, seed=0)
    keys: dict[str, Any] = {"bits": 8, "grid": "uniform", "clip_sigmas": 50.0}
    assert rate(weight, hessian, columns="water", **keys) < rate(weight, hessian, **keys) - 0.15
    exponents = quantized(weight, hessian, columns="water", **keys).column_exponents
    assert exponents is not None and abs(float(exponents.float().mean())) < 0.5
    # U's diagonal by its definition, in the order of descending inputs.
    damped = hessian.double() + 0.01 * hessian.double().diagonal().mean() * torch.eye(96)
    order = hessian.diagonal().argsort(descending=True)
    pivots = torch.linalg.cholesky(damped[order][:, order].inverse(), upper=True).diagonal()
    levelled = pivots[order.argsort()] / 2 ** (exponents.double() / 8)
    assert float(levelled.max() / levelled.min()) < 2 ** (1 / 8) * 1.001


def test_columns_without_input_have_no_exponent() -> None:
    weight, hessian = problem(8, 24, seed=1)
    hessian[5], hessian[:, 5] = 0.0, 0.0
    found = quantized(weight, hessian, columns="water")
    assert found.column_exponents is not None and int(found.column_exponents[5]) == 0
    assert not found.codes[:, 5].any()


def test_rounding_that_counts_bits_needs_fewer_for_the_same_error() -> None:
    weight, hessian = uneven(128, 96, seed=1)
    keys: dict[str, Any] = {"bits": 6, "clip_sigmas": 40.0}
    plain = rate(weight, hessian, **keys)
    assert rate(weight, hessian, rounding="entropy", penalty=0.1, **keys) < plain - 0.05
    free = quantized(weight, hessian, rounding="entropy", **keys)
    assert torch.equal(free.codes, quantized(weight, hessian, **keys).codes)


def test_a_higher_penalty_never_costs_more_bits() -> None:
    weight, hessian = uneven(64, 64, seed=2)
    bits = [
        entropy(quantized(weight, hessian, rounding="entropy", penalty=p, bits=5))
        for p in (0.0, 0.05, 0.2, 1.0, 5.0)
    ]
    assert bits == sorted(bits, reverse=True) and bits[-1] < 0.8 * bits[0]


def test_trellis_codes_save_bits() -> None:
    weight, hessian = uneven(96, 96, seed=3)
    keys: dict[str, Any] = {"bits": 8, "grid": "uniform", "clip_sigmas": 50.0, "columns": "water"}
    plain = rate(weight, hessian, order="natural", **keys)
    assert rate(weight, hessian, order="natural", rounding="trellis", **keys) < plain - 0.05


# -- corrections and whole models ------------------------------------------------------------


def test_only_the_worst_matrices_are_corrected_and_become_better() -> None:
    weights, hessians = problems([(24, 32)] * 4)
    weights["m3"] = 3 * weights["m3"]
    keys: dict[str, Any] = {"bits": 3, "rank": 3}
    rules = [Rule(pattern="m[01]", **keys, worst=1), Rule(pattern="*", **keys, worst=1)]
    found = quantize_weights(weights, hessians, rules, World()).tensors
    plain = quantize_weights(weights, hessians, [Rule(pattern="*", bits=3)], World()).tensors
    for name, value in found.items():
        before = plain[name]
        assert isinstance(value, IntTensor) and isinstance(before, IntTensor)
        assert (value.correction is not None) == (name == "m3")  # the rules choose together
        errors = [output_error(weights[name], v, hessians[name]) for v in (value, before)]
        assert errors[0] < errors[1] if name == "m3" else errors[0] == errors[1]


def test_a_whole_model_by_rules_of_its_own() -> None:
    model, ids = tiny_recurrent(), random_ids(8, 16)
    model.recurrence(True)
    quantizer = CustomQuantizer(
        rules=[
            {"pattern": "tok_emb.weight", "bits": 8, "columns": "water"},
            {"pattern": "*.mlp.*.weight", "bits": 6, "grid": "search", "rank": 2},
            {"pattern": "*.weight", "bits": 7, "clip_sigmas": 4},
            {"pattern": "skip_gates", "bits": 8, "grid": "absmax", "rounding": "nearest"},
        ],
        calibration_batches=1,
    )
    codes = quantizer.quantize(model, iter([ids]), World(), unasked)
    assert list(codes.tensors) == list(model.state_dict())
    bits = {n: v.bits for n, v in codes.tensors.items() if isinstance(v, IntTensor)}
    assert bits["tok_emb.weight"] == bits["skip_gates"] == 8 and bits["blocks.0.mlp.fc.weight"] == 6
    assert bits["blocks.0.attn.c_q.weight"] == 7 and "skip_weights" not in bits
    for name, weight in model.state_dict().items():
        assert (codes.weights()[name] - weight).norm() < 0.1 * weight.norm(), name


def test_a_rule_that_fits_nothing_is_named() -> None:
    model = tiny_recurrent()
    rules = [{"pattern": pattern, "rounding": "nearest"} for pattern in ("*.weight", "*.wieght")]
    quantizer = CustomQuantizer(rules=rules, calibration_batches=0)
    with pytest.warns(UserWarning, match=r"quant.rules\[1\].pattern=\*.wieght fits no tensor"):
        quantizer.quantize(model, iter(()), World(), unasked)
