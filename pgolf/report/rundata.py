"""What the page is made of: result.json, events.jsonl and config.yaml of a run folder."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgolf.errors import UserError
from pgolf.events import read_events
from pgolf.report.svg import Point
from pgolf.result import validate_result_of


@dataclass(frozen=True)
class RunData:
    """A finished run.

    Args:
        folder: the run folder.
        result: the checked result.
        loss_by_step, loss_by_second: training loss in nats per token.
        ttt_bpb, ttt_loss: by epoch; empty where they were not measured.
        ttt_running: bits per byte by tokens scored, of a method that adapts while scoring.
        ttt_gain: what the unadapted model's are above that on the same tokens.
        tokenizer: what the data stage counted of the validation text, or None.
        tensors: bytes by tensor of the artifact, as `pgolf.census` counts them, or None.
        config: text of config.yaml, or "".
        audit: content of audit.json, or None.
        documents: the final score by document, as `pgolf.documents` tells it, or None.
    """

    folder: Path
    result: dict[str, Any]
    loss_by_step: list[Point]
    loss_by_second: list[Point]
    ttt_bpb: list[Point]
    ttt_loss: list[Point]
    ttt_running: list[Point]
    ttt_gain: list[Point]
    tokenizer: dict[str, Any] | None
    tensors: list[dict[str, Any]] | None
    config: str
    audit: dict[str, Any] | None = None
    documents: dict[str, Any] | None = None


def load_run(folder: Path) -> RunData:
    """Read a run folder; events and configuration may be missing.

    Raises:
        UserError: there is no result, or it does not hold together.
    """
    path = folder / "result.json"
    if not path.is_file():
        raise UserError(f"{folder} has no result.json: the run is not finished, or no run folder")
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): start the run's command again") from error
    validate_result_of(folder, result)
    log, config = folder / "events.jsonl", folder / "config.yaml"
    events = list(read_events(log)) if log.exists() else []
    running = curve(events, "ttt_curve", "tokens", "bpb")
    unadapted = dict(curve(events, "ttt_curve", "tokens", "unadapted_bpb"))
    return RunData(
        folder=folder,
        result=result,
        loss_by_step=curve(events, "train_step", "step", "train/loss"),
        loss_by_second=curve(events, "train_step", "elapsed_s", "train/loss"),
        ttt_bpb=curve(events, "ttt_epoch", "epoch", "val/bpb"),
        ttt_loss=curve(events, "ttt_epoch", "epoch", "train/loss"),
        ttt_running=running,
        ttt_gain=[(x, unadapted[x] - y) for x, y in running if x in unadapted],
        tokenizer=_last(events, "tokenizer"),
        tensors=(_last(events, "tensors") or {}).get("rows"),
        config=config.read_text(encoding="utf-8", errors="replace") if config.exists() else "",
        audit=_audit(folder / "audit.json"),
        documents=_last(events, "documents"),
    )


def _audit(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): run `pgolf audit` again") from error
    if not isinstance(found, dict) or not {"verdict", "mode", "cost_s", "findings"} <= found.keys():
        raise UserError(f"{path} is no audit: run `pgolf audit` again")
    return found


def curve(events: list[dict[str, Any]], kind: str, x: str, y: str) -> list[Point]:
    """Points (x, y) of one kind of event, by x; of a repeated x, as after a resume, the last."""
    points: dict[float, float] = {}
    for event in events:
        if event.get("event") == kind and _finite(event.get(x)) and _finite(event.get(y)):
            points[float(event[x])] = float(event[y])
    return sorted(points.items())


def _last(events: list[dict[str, Any]], kind: str) -> dict[str, Any] | None:
    return next((event for event in reversed(events) if event.get("event") == kind), None)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
