"""Events and results as the flat names and numbers that a tracker draws curves of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# A tracker draws the left side over the right side.
AXES = {
    "train/*": "step",
    "perf/*": "step",
    "tokens": "step",
    "ttt/*": "ttt/epoch",
    "ttt_curve/*": "ttt_curve/tokens",
}
_NOT_METRICS = {"time", "event", "stage", "name", "status"}

Values = dict[str, Any]


def metrics_of(event: Values) -> tuple[Values, Values]:
    """What an event adds to a run's curves and to its summary.

    Args:
        event: a line of events.jsonl.

    Returns:
        `(curves, summary)`: flat names to numbers; either may be empty.
    """
    kind, stage = event.get("event"), str(event.get("stage", ""))
    values = {key: value for key, value in event.items() if key not in _NOT_METRICS}
    if kind == "train_step":
        return values, {}
    if kind == "ttt_epoch":
        # The loss of this stage is not that of training: it gets its own curve.
        names = {"train/loss": "ttt/loss", "val/bpb": "ttt/bpb"}
        return {names.get(key, f"ttt/{key}"): value for key, value in values.items()}, {}
    if kind == "ttt_curve":
        # Running BPB over the text, and the unadapted model's on the same positions.
        return {f"ttt_curve/{key}": value for key, value in values.items()}, {}
    if kind == "score":
        return {}, score_values(str(event.get("name", stage)), values)
    if kind == "stage":
        seconds = values.get("seconds")
        return {}, {} if seconds is None else {f"seconds/{stage}": seconds}
    if kind in ("tensors", "documents"):  # a table for the report; text stays in the run folder
        return {}, {}
    return {}, {f"{kind}/{key}": value for key, value in values.items()}


def score_values(name: str, score: Values) -> Values:
    """`bpb/NAME`, `nats/NAME`, ... of one score."""
    keys = ("bpb", "nats", "tokens", "bytes")
    return {f"{key}/{name}": score[key] for key in keys if key in score}


def summary_of(result: Values) -> Values:
    """A result's figures: scores, artifact, seconds, budgets and eligibility."""
    return dict(_summary_items(result))


def _summary_items(result: Values) -> Iterator[tuple[str, Any]]:
    for name, score in result["bpb"].items():
        if score is not None:
            yield from score_values(name, score).items()
    if result.get("control") is not None:
        yield from score_values("control", result["control"]).items()
    for key, value in result["artifact"].items():
        yield f"artifact/{key}", value
    for stage, seconds in result["seconds"].items():
        yield f"seconds/{stage}", seconds
    for budget in result["budgets"]:
        yield f"budget/{budget['name']}_s", budget["charged_s"]
    eligibility = result["eligibility"]
    yield "eligible", eligibility["eligible"]
    yield "track", eligibility["track"]
    yield "reasons", " ".join(eligibility["reasons"])
    yield "config_hash", result["config_hash"]
