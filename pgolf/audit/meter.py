"""METER: whether every second of a run is charged to a budget, and none is over its limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pgolf.audit.finding import Finding
from pgolf.audit.probe import failed, not_applicable, passed, undecided
from pgolf.audit.subject import Subject
from pgolf.audit.times import contradictions

# What a run may do without a limit: making shards, and scores that nothing depends on.
FREE = {
    "data": {"documents", "tokens"},
    "diagnostic": {
        *("score_trained", "score_ema", "score_adapted", "quantized", "control"),
        "wait",  # as long as events tell of
    },
}
TRAINING = {"train", "warm_up"}  # all that published accounts charge


class Meter:
    """Adds up the seconds of a result and compares them with its events and its process.

    Args:
        train_s, evaluate_s: seconds that the rules allow.
        tolerance_s: what rounding and two clocks may make.
    """

    name = "METER"

    def __init__(self, *, train_s: float, evaluate_s: float, tolerance_s: float) -> None:
        self.limits = {"train": train_s, "evaluate": evaluate_s}
        self.tolerance_s = tolerance_s

    def check(self, subject: Subject) -> Finding:
        """Budgets, stages, then the time between them."""
        result = subject.result
        if result is None:
            return not_applicable(self, "There is no run whose seconds could be charged.")
        for wrong in (
            *self._signs(result),
            *self._budgets(result),
            *self._stages(subject, result),
            *self._times(subject, result),
        ):
            return wrong
        uncharged = self._uncharged(subject, result)
        if uncharged is None:
            what = "The run has no meter event: nobody knows its start and its end."
            return undecided(self, what, "seconds of the launcher", file="events.jsonl")
        if uncharged > self.tolerance_s:
            return failed(
                self, f"{uncharged:.1f} s between start and end are charged to no budget.",
                uncharged_s=round(uncharged, 3),
            )  # fmt: skip
        charged = {b["name"]: round(_charged(result, b), 3) for b in result["budgets"]}
        published = sum(s for name, s in result["seconds"].items() if name in TRAINING)
        what = ", ".join(f"{name} {charged.get(name, 0.0):.1f} s" for name in self.limits)
        return passed(
            self, f"Every second is charged: {what}.", charged_s=charged,
            published_train_s=round(published, 3),
            not_in_published_s=round(charged.get("train", 0.0) - published, 3),
        )  # fmt: skip

    def _budgets(self, result: dict[str, Any]) -> Iterator[Finding]:
        owner: dict[str, str] = {}
        for budget in result["budgets"]:
            owner |= dict.fromkeys(budget["what"], budget["name"])
            charged, name = _charged(result, budget), budget["name"]
            if abs(charged - budget["charged_s"]) > self.tolerance_s:
                yield failed(
                    self, f"The {name} budget is said to be {budget['charged_s']:.1f} s.",
                    budget=name, charged_s=budget["charged_s"], stages_s=round(charged, 3),
                )  # fmt: skip
            limit = self.limits.get(name)
            if limit is not None and charged > limit:
                yield failed(
                    self, f"The {name} budget is over its limit: {charged:.1f} of {limit:.0f} s.",
                    budget=name, charged_s=round(charged, 3), limit_s=limit,
                )  # fmt: skip
        for stage, seconds in result["seconds"].items():
            name = owner.get(stage)
            if name in self.limits or stage in FREE.get(str(name), ()):
                continue
            where = "no budget" if name is None else f"{name}, which has no limit"
            yield failed(
                self, f"{stage} is charged to {where}.", stage=stage, seconds=seconds
            )  # fmt: skip

    def _signs(self, result: dict[str, Any]) -> Iterator[Finding]:
        for stage, seconds in result["seconds"].items():
            if not 0.0 <= seconds < float("inf"):
                yield failed(self, f"{stage} took {seconds} s.", stage=stage, seconds=seconds)

    def _times(self, subject: Subject, result: dict[str, Any]) -> Iterator[Finding]:
        for what, witness in contradictions(subject.events, result):
            yield failed(self, what, **witness)

    def _stages(self, subject: Subject, result: dict[str, Any]) -> Iterator[Finding]:
        """What the events say of each stage, also of one that ran before and is reused."""
        for event in subject.named("stage"):
            if event.get("status") not in ("done", "reused"):
                continue
            found, measured = result["seconds"].get(event["stage"], 0.0), event["seconds"]
            if measured - found > self.tolerance_s:
                yield failed(
                    self, f"{event['stage']} took {measured:.1f} s, {found:.1f} s are charged.",
                    stage=event["stage"], measured_s=measured, charged_s=found,
                )  # fmt: skip

        waited = sum(event.get("waited_s", 0.0) for event in subject.named("stage"))
        claimed = result["seconds"].get("wait", 0.0)
        if claimed - waited > self.tolerance_s:
            yield failed(
                self, f"{claimed:.1f} s of waiting are left out, {waited:.1f} s were waited.",
                claimed_s=claimed, waited_s=round(waited, 3),
            )  # fmt: skip

    def _uncharged(self, subject: Subject, result: dict[str, Any]) -> float | None:
        """Seconds of this run's processes that its result does not have; None if nobody knows."""
        meters = subject.named("meter")
        if not meters:
            return None
        meter = meters[-1]
        spans: dict[str, float] = meter["spans"]
        # Time of this run's own: a reused stage was charged before, a resumed one in part.
        own = {k: v for k, v in result["seconds"].items() if k not in result["reused"]}
        if "train" in result["reused"]:
            own.pop("warm_up", None)
        earlier = sum(e["elapsed_s"] + e["warm_up_s"] for e in subject.named("resume"))
        charged = sum(v for k, v in own.items() if k not in FREE["data"]) - earlier
        in_spans = sum(v for k, v in spans.items() if k != "data")
        between = meter["ended"] - meter["started"] - sum(spans.values())
        return max(0.0, in_spans - charged) + max(0.0, between)


def _charged(result: dict[str, Any], budget: dict[str, Any]) -> float:
    return float(sum(result["seconds"].get(stage, 0.0) for stage in budget["what"]))
