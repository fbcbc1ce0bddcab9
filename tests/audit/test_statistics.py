"""Student's t by tables, Welch's test by hand and by published seeds, margins, seeds, warnings."""

from __future__ import annotations

import math
import random
import statistics as plain

import pytest

from pgolf.audit import student
from pgolf.audit.statistics import (
    MARGIN_NATS,
    Score,
    Side,
    compare_sides,
    seeds_needed,
    side_of,
    warnings_of,
    welch,
)

# openai/parameter-golf: sliding BPB of seeds 1337, 42, 999 in #1738 and #1735, and of seeds 43, 44,
# 45 in #1758 (kilojoules), which gives t = 13.8 against 1.03040 (#1738's mean less 0.005).
V15 = [1.03484, 1.03618, 1.03519]
PR_1735 = [1.04114, 1.04390, 1.04366]
PR_1758 = [1.02846, 1.02812, 1.02861]


# Standard tables of the t distribution, three decimals.
@pytest.mark.parametrize(
    ("p", "df", "t"),
    [
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.99, 2, 6.965),
        (0.99, 4, 3.747),
        (0.995, 10, 3.169),
        (0.9995, 5, 6.869),
        (0.95, 30, 1.697),
        (0.975, 120, 1.980),
    ],
)
def test_quantiles_are_those_of_the_tables(p: float, df: float, t: float) -> None:
    assert student.quantile(p, df) == pytest.approx(t, abs=6e-4)
    assert student.cdf(student.quantile(p, df), df) == pytest.approx(p, abs=1e-12)


@pytest.mark.parametrize("t", [-7.0, -1.2, 0.0, 0.3, 2.5, 40.0])
def test_one_and_two_degrees_of_freedom_have_closed_forms(t: float) -> None:
    assert student.cdf(t, 1) == pytest.approx(0.5 + math.atan(t) / math.pi, abs=1e-13)
    assert student.cdf(t, 2) == pytest.approx(0.5 + t / (2 * math.sqrt(2 + t * t)), abs=1e-13)


def test_a_fractional_df_lies_between_its_neighbours() -> None:
    assert student.upper_tail(3, 3) < student.upper_tail(3, 2.5) < student.upper_tail(3, 2)


def test_power_is_that_of_many_drawn_samples() -> None:
    n, effect, alpha, draw = 4, 2.0, 0.05, random.Random(3)
    critical = student.quantile(1 - alpha, n - 1)
    rejected = 0
    for _ in range(20_000):
        x = [draw.gauss(effect, 1.0) for _ in range(n)]
        rejected += plain.fmean(x) / (plain.stdev(x) / math.sqrt(n)) > critical
    computed = student.power(effect * math.sqrt(n), n - 1, alpha)
    assert computed == pytest.approx(rejected / 20_000, abs=0.01)


def test_without_an_effect_the_power_is_alpha() -> None:
    for df in (1.0, 2.79, 50.0):
        assert student.power(0.0, df, 0.01) == pytest.approx(0.01, abs=1e-5)


def test_kilojoules_t_is_13_8_and_its_p_is_not_below_a_thousandth() -> None:
    compared = compare_sides(side_of(PR_1758), Side([Score("number", 1.03040)], fixed=True))
    assert compared.t == pytest.approx(13.8, abs=0.05) and compared.df == 2
    assert plain.fmean(PR_1758) == pytest.approx(1.02840, abs=5e-6)
    # Published as p < 0.001; with two degrees of freedom it is 0.0026 one-sided.
    assert compared.p_two_sided == pytest.approx(2 * 0.0026, abs=1e-4)


def test_v15_against_1735_is_better_but_no_record_per_byte() -> None:
    compared = compare_sides(side_of(V15), side_of(PR_1735))
    a, b = plain.variance(V15) / 3, plain.variance(PR_1735) / 3
    assert compared.improvement_bpb == pytest.approx(0.0074967, abs=1e-7)
    assert compared.t == pytest.approx(compared.improvement_bpb / math.sqrt(a + b), rel=1e-12)
    assert compared.df == pytest.approx((a + b) ** 2 / (a * a / 2 + b * b / 2), rel=1e-12)
    assert compared.p_two_sided == pytest.approx(0.00577, abs=5e-6)
    low, high = compared.interval_bpb or (0.0, 0.0)
    assert 0 < low < compared.improvement_bpb < high
    per_byte, per_token = compared.margins
    assert per_byte.bpb == pytest.approx(0.0072135, abs=1e-7)
    assert not per_byte.record and per_byte.p is not None and per_byte.p > 0.3
    assert per_byte.seeds_needed is not None and per_byte.seeds_needed > 100
    assert per_token.bpb is None and not per_token.record


def test_the_margin_per_token_is_smaller_by_the_bytes_of_a_token() -> None:
    mine = side_of(V15, tokens=1.0, bytes=3.157)
    other = side_of(PR_1735, tokens=1.0, bytes=3.157)
    per_byte, per_token = compare_sides(mine, other).margins
    assert per_byte.bpb and per_token.bpb and per_token.p is not None
    assert per_token.bpb == pytest.approx(per_byte.bpb / 3.157)
    assert per_token.bpb * math.log(2) * 3.157 == pytest.approx(MARGIN_NATS)
    # The same six numbers are a record by one reading of "0.005 nats" and none by the other.
    assert per_token.p == pytest.approx(0.00756, abs=1e-5) and per_token.record
    assert not per_byte.record
    worse = compare_sides(side_of([v + 0.001 for v in V15], tokens=1.0, bytes=3.157), other)
    assert not worse.margins[1].record


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    draw, covered = random.Random(5), 0
    for _ in range(2000):
        a = side_of([draw.gauss(1.0, 0.001) for _ in range(3)])
        b = side_of([draw.gauss(1.004, 0.001) for _ in range(3)])
        test = welch(a, b)
        assert test is not None
        low, high = test.interval(0.95)
        covered += low < 0.004 < high
    assert 0.935 < covered / 2000 < 0.985  # Welch's test is conservative with three seeds


def test_the_seeds_needed_are_the_smallest_that_reach_the_power() -> None:
    a, b, alpha = side_of([1.0, 1.002, 1.001]), side_of([1.0085, 1.0105, 1.0095]), 0.01
    n = seeds_needed(a, b, 0.0072)
    assert n is not None and n > 2

    def power_of(n: int) -> float:
        error = math.sqrt(2 * 1e-6 / n)
        return student.power((b.mean - a.mean - 0.0072) / error, 2 * (n - 1), alpha)

    assert power_of(n) >= 0.9 > power_of(n - 1)
    assert seeds_needed(a, b, 0.02) is None
    more = seeds_needed(a, b, 0.0072, power=0.99)
    assert more is not None and more > n


def test_one_seed_gives_no_test_but_a_warning() -> None:
    compared = compare_sides(side_of([1.0]), side_of(PR_1735))
    assert compared.t is None and compared.interval_bpb is None
    assert not any(margin.record for margin in compared.margins)
    assert any("there is one" in text for text in compared.warnings)


def test_copies_give_no_spread() -> None:
    compared = compare_sides(side_of([1.0, 1.0]), Side([Score("n", 1.1)], fixed=True))
    assert compared.t is None and any("copies" in text for text in compared.warnings)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({"seed": 1}, {"seed": 1}, "a seed is there twice: 1"),
        ({"config_hash": "a"}, {"config_hash": "b"}, "2 configurations"),
        ({"folder": "/x"}, {}, "on both sides"),
        ({"tokens": 10, "bytes": 30}, {"tokens": 11, "bytes": 30}, "tokenizations differ"),
        ({"tokens": 10, "bytes": 30}, {"tokens": 10, "bytes": 40}, "different texts"),
        ({"eligible": False}, {}, "not eligible by their own result"),
    ],
)
def test_what_spoils_a_comparison_is_said(first: dict, second: dict, words: str) -> None:
    across = "tokens" in first or "folder" in first
    a, b = Score("a", 1.0, **first), Score("b", 1.1, **second)
    one = Side([a, Score("c", 1.05, **first)]) if across else Side([a, b])
    other = Side([b, a] if "folder" in first else [b, Score("d", 1.2, **second)])
    clean = Side([Score("e", 1.0, seed=7), Score("f", 1.1, seed=8)])
    found = warnings_of(one, other if across else clean)
    assert any(words in text for text in found), found


def test_a_clean_comparison_has_no_warning() -> None:
    known = {"tokens": 10, "bytes": 30, "config_hash": "x", "eligible": True}
    a = Side([Score("a", 1.0, 1, **known), Score("b", 1.1, 2, **known)])
    b = Side([Score("c", 1.2, 1, **{**known, "config_hash": "y"}), Score("d", 1.3, 2, **known)])
    b = Side([Score(s.label, s.bpb, s.seed, **{**known, "config_hash": "y"}) for s in b.scores])
    assert warnings_of(a, b) == []
