"""Rules: which tensor gets which, and what is wrong with a rule, said before anything starts."""

from __future__ import annotations

from typing import Any

import pytest

from pgolf.config import compose
from pgolf.errors import UserError
from pgolf.quant.custom import CustomQuantizer
from pgolf.quant.rules import Rule, parse_rules, rule_for

RULES = [
    Rule(pattern="blocks.0.*", bits=8, grid="absmax", rounding="nearest"),
    Rule(pattern="tok_emb.weight", bits=16),
    Rule(pattern="*.weight", bits=5, min_elements=100),
    Rule(pattern="*gate*", bits=7),
]


@pytest.mark.parametrize(
    ("name", "shape", "bits"),
    [
        ("blocks.0.attn.c_q.weight", (4, 4), 8),
        ("blocks.0.anything", (4, 4), 8),
        ("blocks.0.attn_scale", (16,), None),  # no matrix
        ("tok_emb.weight", (64, 64), None),
        ("blocks.1.attn.c_q.weight", (10, 10), 5),
        ("blocks.1.attn.c_q.weight", (9, 11), None),  # too small; later rules are not asked
        ("skip_gates", (2, 3), 7),
        ("skip_weights", (2, 3), None),
        ("gates.weight", (3, 3), None),
    ],
)
def test_the_first_rule_whose_pattern_fits_counts(
    name: str, shape: tuple[int, ...], bits: int | None
) -> None:
    rule = rule_for(name, shape, RULES)
    assert (rule.bits if rule else None) == bits


def test_a_hessian_is_needed_where_something_depends_on_inputs() -> None:
    plain: dict[str, Any] = {"pattern": "*", "rounding": "nearest"}
    assert not Rule(**plain).needs_hessian
    assert not Rule(**plain, grid="absmax", symmetric=False).needs_hessian
    for change in ({"grid": "search"}, {"columns": "water"}, {"rank": 1}):
        assert Rule(**plain, **change).needs_hessian, change
    assert Rule(pattern="*").needs_hessian and not Rule(pattern="*", bits=16).needs_hessian


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"bits": 1}, r"bits=1: expected 2 to 8"),
    ({"bits": 9}, r"bits=9"),
    ({"bits": 4.0}, r"bits=4.0 has the wrong type"),
    ({"factor_bits": 1}, r"factor_bits=1"),
    ({"grid": "sdlcip"}, r"grid='sdlcip' .*expected Literal"),
    ({"rounding": "gptq2"}, r"rounding='gptq2'"),
    ({"states": 5}, r"states=5"),
    ({"clip_sigmas": 0}, r"clip_sigmas=0: expected a number above 0"),
    ({"clip_sigmas": float("nan")}, r"clip_sigmas=nan"),
    ({"penalty": -1.0}, r"penalty=-1.0"),
    ({"penalty": 0.1}, r"penalty=0.1 has no effect on rounding=gptq"),
    ({"damping": -0.1}, r"damping=-0.1"),
    ({"rank": -1}, r"rank=-1"),
    ({"worst": 3}, r"worst=3 has no effect without rank"),
    ({"worst": 0, "rank": 1}, r"worst=0"),
    ({"rank": 2, "symmetric": False}, r"rank=2 with symmetric=false"),
    ({"rounding": "trellis"}, r"rounding=trellis .*order=natural"),
    ({"group_columns": -1}, r"group_columns=-1: expected 0 for whole rows, or more"),
    ({"group_columns": 2.0}, r"group_columns=2.0 has the wrong type"),
    (
        {"group_columns": 8, "grid": "uniform"},
        r"group_columns=8 with grid=uniform.*group_columns=0",
    ),
    (
        {"group_columns": 8, "rounding": "trellis", "order": "natural"},
        r"group_columns=8 with rounding=trellis.*or entropy",
    ),
    ({"min_elements": 0}, r"min_elements=0"),
    ({"block_size": 0}, r"block_size=0"),
    ({"clip_sigma": 3.0}, r"clip_sigma: .*no such key \(did you mean clip_sigmas\?\)"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=[str(c) for c, _ in WRONG])
def test_a_wrong_rule_is_named_with_its_place(changes: dict[str, Any], message: str) -> None:
    rules = [{"pattern": "a"}, {"pattern": "b", **changes}]
    with pytest.raises(UserError, match=rf"^quant\.rules\[1\]\.{message}"):
        CustomQuantizer(rules=rules, calibration_batches=1)


def test_a_rule_without_a_pattern_and_no_rule_at_all_are_refused() -> None:
    with pytest.raises(UserError, match=r"quant\.rules\[0\]: missing pattern"):
        parse_rules("quant.rules", [{"bits": 4}])
    with pytest.raises(UserError, match="at least one rule"):
        parse_rules("quant.rules", [])


def test_calibration_is_required_only_where_it_is_used() -> None:
    with pytest.raises(UserError, match=r"quant.calibration_batches=0: the rule for b\* needs"):
        CustomQuantizer(
            rules=[{"pattern": "a", "rounding": "nearest"}, {"pattern": "b*"}],
            calibration_batches=0,
        )
    unused = [{"pattern": "*", "rounding": "nearest"}]
    assert CustomQuantizer(rules=unused, calibration_batches=9).calibration_batches == 0


def test_a_wrong_rule_on_the_command_line_is_found_before_the_run() -> None:
    with pytest.raises(UserError, match=r"quant\.rules\[0\]\.bits=12"):
        compose(["quant=custom", "quant.rules=[{pattern: '*.weight', bits: 12}]"])
