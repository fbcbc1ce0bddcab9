"""Whether runs are better than others: Welch's t, the record margin, and the seeds it would take.

The margin of a record is 0.005 nats. Per byte that is 0.0072 BPB, per token about a third of it, so
both are judged and named; nats per token are comparable between equal tokenizations only.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pgolf.audit import student

MARGIN_NATS, ALPHA, POWER = 0.005, 0.01, 0.9
MAX_SEEDS = 1000
LN2 = math.log(2.0)


@dataclass(frozen=True)
class Score:
    """One run's final score.

    Args:
        label: run id, or where the number stands.
        bpb: bits per byte.
        seed: None where the source does not say.
        tokens, bytes: of the scored text; 1 and a token's mean where only the ratio is known.
        config_hash: equal over the seeds of one configuration; None where unknown.
        folder: of a run that lies on this machine.
        eligible: the run's own judgement, None where unknown.
    """

    label: str
    bpb: float
    seed: int | None = None
    tokens: float | None = None
    bytes: float | None = None
    config_hash: str | None = None
    folder: str | None = None
    eligible: bool | None = None

    @property
    def bytes_per_token(self) -> float | None:
        return self.bytes / self.tokens if self.bytes and self.tokens else None


@dataclass(frozen=True)
class Side:
    """Scores that are compared as one sample.

    Args:
        fixed: the one score is a number to beat, known without spread (a one-sample test).
    """

    scores: list[Score]
    fixed: bool = False

    @property
    def bpb(self) -> list[float]:
        return [score.bpb for score in self.scores]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.bpb)

    @property
    def std(self) -> float | None:
        """Sample deviation (n - 1); None of a single score."""
        return statistics.stdev(self.bpb) if len(self.scores) > 1 else None

    @property
    def bytes_per_token(self) -> float | None:
        """Of all scores, where they agree to 0.01%."""
        values = [score.bytes_per_token for score in self.scores]
        known = [value for value in values if value is not None]
        if len(known) < len(values) or not known or max(known) > min(known) * 1.0001:
            return None
        return statistics.fmean(known)


@dataclass(frozen=True)
class Welch:
    """A difference of means with its standard error and degrees of freedom, in BPB."""

    difference: float
    error: float
    df: float

    def t(self, margin: float = 0.0) -> float:
        return (self.difference - margin) / self.error

    def p_beyond(self, margin: float) -> float:
        """One-sided: how likely such a difference is if the true one were the margin."""
        return student.upper_tail(self.t(margin), self.df)

    def interval(self, confidence: float) -> tuple[float, float]:
        half = student.quantile(0.5 + confidence / 2, self.df) * self.error
        return self.difference - half, self.difference + half


@dataclass(frozen=True)
class Margin:
    """The record rule under one reading of its unit.

    Args:
        unit: "nats per byte" or "nats per token".
        bpb: the margin in bits per byte; None where tokens cannot be compared.
        t, p: one-sided test of the improvement beyond the margin; None where it cannot be made.
        record: the improvement reaches the margin and p is below alpha.
        seeds_needed: seeds on each side for the power asked; None where the observed improvement
            is within the margin, so that no number of seeds would do, or where it is unknown.
    """

    unit: str
    bpb: float | None
    t: float | None = None
    p: float | None = None
    record: bool = False
    seeds_needed: int | None = None


@dataclass(frozen=True)
class Comparison:
    """What `pgolf compare --against` answers. `improvement` is positive where `side` is better."""

    side: Side
    against: Side
    improvement_bpb: float
    improvement_nats_per_byte: float
    improvement_nats_per_token: float | None
    t: float | None
    df: float | None
    p_two_sided: float | None
    confidence: float
    interval_bpb: tuple[float, float] | None
    interval_nats_per_byte: tuple[float, float] | None
    margins: list[Margin]
    alpha: float
    power: float
    warnings: list[str] = field(default_factory=list)


def welch(side: Side, against: Side) -> Welch | None:
    """The test of `against` minus `side`; None where a spread is not known or is zero in both."""
    parts = [_variance_of_mean(s) for s in (side, against)]
    if None in parts:
        return None
    (a, df_a), (b, df_b) = (part for part in parts if part is not None)
    if a + b <= 0.0:
        return None
    below = (a * a / df_a if a else 0.0) + (b * b / df_b if b else 0.0)
    return Welch(against.mean - side.mean, math.sqrt(a + b), (a + b) ** 2 / below)


def _variance_of_mean(side: Side) -> tuple[float, float] | None:
    if side.fixed:
        return 0.0, 1.0
    if side.std is None:
        return None
    return side.std**2 / len(side.scores), len(side.scores) - 1.0


def seeds_needed(
    side: Side, against: Side, margin: float, *, alpha: float = ALPHA, power: float = POWER
) -> int | None:
    """Seeds on each side (of `side` alone, against a fixed number) that reach the power.

    The observed means and deviations are taken for the true ones. None where the improvement does
    not exceed the margin, no spread is known, or `MAX_SEEDS` do not suffice.
    """
    effect = against.mean - side.mean - margin
    stds = [0.0 if s.fixed else s.std for s in (side, against)]
    if effect <= 0.0 or None in stds or not any(stds):
        return None
    a, b = (std * std for std in stds if std is not None)
    low, high = 1, MAX_SEEDS
    while high - low > 1:
        n = (low + high) // 2
        df = (n - 1) * (a + b) ** 2 / (a * a + b * b)
        reached = student.power(effect / math.sqrt((a + b) / n), df, alpha) >= power
        low, high = (low, n) if reached else (n, high)
    return high if high < MAX_SEEDS else None


def compare_sides(
    side: Side, against: Side, *, alpha: float = ALPHA, power: float = POWER
) -> Comparison:
    """Compare two samples of scores; the interval's confidence is 1 - alpha."""
    test = welch(side, against)
    improvement = against.mean - side.mean
    confidence = 1.0 - alpha
    interval = test.interval(confidence) if test else None
    ratio = _common_ratio(side, against)
    margins = [
        _judge(Margin(unit, bpb), side, against, test, alpha, power)
        for unit, bpb in (
            ("nats per byte", MARGIN_NATS / LN2),
            ("nats per token", MARGIN_NATS / LN2 / ratio if ratio else None),
        )
    ]
    return Comparison(
        side=side,
        against=against,
        improvement_bpb=improvement,
        improvement_nats_per_byte=improvement * LN2,
        improvement_nats_per_token=improvement * LN2 * ratio if ratio else None,
        t=test.t() if test else None,
        df=test.df if test else None,
        p_two_sided=2.0 * student.upper_tail(abs(test.t()), test.df) if test else None,
        confidence=confidence,
        interval_bpb=interval,
        interval_nats_per_byte=(interval[0] * LN2, interval[1] * LN2) if interval else None,
        margins=margins,
        alpha=alpha,
        power=power,
        warnings=warnings_of(side, against),
    )


def _common_ratio(side: Side, against: Side) -> float | None:
    """Bytes per token of both; a number to beat has none of its own."""
    mine, other = side.bytes_per_token, against.bytes_per_token
    if against.fixed and other is None:
        return mine
    if mine is None or other is None or abs(mine / other - 1.0) > 1e-4:
        return None
    return mine


def _judge(
    margin: Margin, side: Side, against: Side, test: Welch | None, alpha: float, power: float
) -> Margin:
    if margin.bpb is None or test is None:
        return margin
    p = test.p_beyond(margin.bpb)
    return replace(
        margin,
        t=test.t(margin.bpb),
        p=p,
        record=test.difference >= margin.bpb and p < alpha,
        seeds_needed=seeds_needed(side, against, margin.bpb, alpha=alpha, power=power),
    )


def warnings_of(side: Side, against: Side) -> list[str]:
    """What makes the numbers mean less than they seem to."""
    found: list[str] = []
    for name, one in (("the runs", side), ("the runs compared against", against)):
        found += _warnings_of_side(name, one)
    if _ids(side) & _ids(against):
        found.append(
            "The same run is on both sides: " + ", ".join(sorted(_ids(side) & _ids(against)))
        )
    return found + _text_warnings(side, against)


def _warnings_of_side(name: str, side: Side) -> list[str]:
    found: list[str] = []
    if len(side.scores) < 2 and not side.fixed:
        found.append(
            f"Of {name} there is one: without a second seed there is no spread and no test."
        )
    if len(side.scores) > 1 and side.std == 0.0:
        found.append(f"All of {name} have the same score: copies, not repetitions, give no spread.")
    seeds = [score.seed for score in side.scores if score.seed is not None]
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if twice:
        found.append(f"Among {name} a seed is there twice: {', '.join(map(str, twice))}.")
    hashes = {score.config_hash for score in side.scores} - {None}
    if len(hashes) > 1:
        found.append(
            f"Among {name} there are {len(hashes)} configurations, which differ in more than the "
            "seed: their spread is not that of seeds."
        )
    bad = [score.label for score in side.scores if score.eligible is False]
    if bad:
        found.append(f"Among {name}, not eligible by their own result: {', '.join(bad)}.")
    return found


def _text_warnings(side: Side, against: Side) -> list[str]:
    """Scores of different texts or tokenizations."""
    scores = [*side.scores, *against.scores]
    # A published score may come with the bytes of one token alone.
    total = {s.bytes for s in scores if s.bytes and s.tokens and s.tokens > 1}
    if total and max(total) > min(total) * 1.0001:
        return [
            f"The scores are of different texts, {min(total):,.0f} to {max(total):,.0f} bytes: "
            "their difference is not one of models."
        ]
    mine, other = side.bytes_per_token, against.bytes_per_token
    if mine and other and abs(mine / other - 1.0) > 1e-4:
        return [
            f"The tokenizations differ ({mine:.4f} and {other:.4f} bytes per token): nats per "
            "token cannot be compared, bits per byte can."
        ]
    return []


def _ids(side: Side) -> set[str]:
    return {score.folder for score in side.scores if score.folder}


def side_of(values: Sequence[float], **known: Any) -> Side:
    """A sample of bare BPB values; `known` goes to every score."""
    return Side([Score(f"#{index + 1}", value, **known) for index, value in enumerate(values)])
