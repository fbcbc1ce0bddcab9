"""What the times of a run's events say of its seconds: a second look at what is charged."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

# A stage's event comes after its files are written, and a write may have to wait.
SLACK_S, SLACK_SHARE = 2.0, 0.1
PRODUCE = ("train", "score_trained", "score_ema", "ttt", "score_adapted", "pack")


def contradictions(
    events: list[dict[str, Any]], result: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Sentence and witness of each number of seconds that the events' own times contradict."""
    seconds, meters = result["seconds"], [e for e in events if e.get("event") == "meter"]
    if meters:
        yield from _outside(events, meters[-1])
        yield from _spans(events, meters[-1])
    yield from _stages(events, seconds, set(result["reused"]))
    yield from _scores(events, seconds)


def _outside(
    events: list[dict[str, Any]], meter: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Nothing happened before the start or after the end of what is charged."""
    for event in events:
        early, late = meter["started"] - event["time"], event["time"] - meter["ended"]
        if max(early, late) > SLACK_S:
            what = f"{event['event']} happened {max(early, late):.1f} s outside the charged time."
            yield what, {"event": event["event"], "time": event["time"], "started":
                         meter["started"], "ended": meter["ended"]}  # fmt: skip
            return


def _spans(
    events: list[dict[str, Any]], meter: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The produce job took at least as long as lies between its events, so did the evaluation."""
    produce = [e["time"] for e in events if e["event"] == "stage" and e["stage"] in PRODUCE]
    evaluate = [
        e["time"] for e in events
        if e["event"] in ("score", "ttt_part") and e["stage"] in ("evaluate", "final")
    ]  # fmt: skip
    for name, times in (("produce", produce), ("evaluate", evaluate)):
        span = float(meter["spans"].get(name, 0.0))
        between = max(times, default=0.0) - min(times, default=0.0)
        if between - span > SLACK_S + SLACK_SHARE * span:
            what = f"The {name} job is said to take {span:.1f} s, its events {between:.1f} s."
            yield what, {"job": name, "span_s": span, "between_events_s": round(between, 3)}


def _stages(
    events: list[dict[str, Any]], seconds: dict[str, float], reused: set[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """No stage is charged as reused that ran; none that is free took longer than its events."""
    started: dict[str, float] = {}
    for event in events:
        if event["event"] != "stage":
            continue
        stage, status = event["stage"], event.get("status")
        if status == "start":
            started[stage] = event["time"]
        if status != "done":
            continue
        if stage in reused and stage in PRODUCE:
            yield f"{stage} is said to be reused, and ran.", {"stage": stage}
        if stage not in started:
            continue
        between = event["time"] - started[stage]
        free = stage.startswith("score_")
        if free and seconds.get(stage, 0.0) - between > SLACK_S + SLACK_SHARE * between:
            what = f"{stage}, which has no limit, is charged {seconds[stage]:.1f} s."
            yield what, {"stage": stage, "charged_s": seconds[stage], "between_events_s": between}


def _scores(
    events: list[dict[str, Any]], seconds: dict[str, float]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What lies between two scores of the evaluation is the second one's; the first has more."""
    scores = [
        e for e in events
        if e["event"] in ("score", "artifact") and e["stage"] == "evaluate"
    ]  # fmt: skip
    for before, after in pairwise(scores):
        between = after["time"] - before["time"]
        charged = float(seconds.get(after.get("name", ""), 0.0))
        slack = SLACK_S + SLACK_SHARE * max(between, charged)
        if after.get("name") == "final":
            if between - charged > slack:
                what = f"The final score took {between:.1f} s, {charged:.1f} s are charged."
                yield what, {"between_events_s": round(between, 3), "charged_s": charged}
        elif charged - between > slack:
            what = f"{after['name']}, which has no limit, is charged {charged:.1f} s."
            yield what, {"charged_s": charged, "between_events_s": round(between, 3)}
