"""A run as the comparison page's script takes it: plain JSON values with few digits.

The script's files in `assets/` read these keys; what a run does not tell is null or empty.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pgolf.report import words
from pgolf.report.downsample import lttb
from pgolf.report.history import Curve, History
from pgolf.report.texts import scored_bytes

ALIVE_S = 120.0  # a run that wrote nothing for longer counts as stopped
RUNNING_POINTS = 60
SHORT_POINTS = 12
DIGITS = 5

Row = dict[str, Any]


def run_id(folder: Path) -> str:
    """A name for addresses and for the script, of letters and digits."""
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]


def run_row(history: History, points: int) -> Row:
    """One run; `points` limits its loss curve."""
    result, folder = history.result, history.folder
    row: Row = {
        "id": run_id(folder),
        "run": folder.name,
        "name": str(history.config.get("name", folder.parent.name)),
        "seed": history.config.get("seed"),
        "group": history.group,
        "base": history.base[:8],
        "state": state_of(history),
        "stage": words.stage_label(history.stage),
        "time": round(history.first_time),
        "bpb": {name: _round(value) for name, value in history.scores.items()},
        "seconds": [[words.stage_label(s), round(v, 2), "", s in history.reused]
                    for s, v in history.seconds.items()],
        "limits": {},
        "broken": history.broken,
        "method": _method(history),
        "epochs": _epochs(history),
        "loss": loss_columns(history.loss, points),
        "ttt": _columns(history.epochs, ("epoch", "bpb", "loss"), points),
        "running": _running(history.running),
        "tensors": [[tensor["name"], tensor["encoded_bytes"]] for tensor in history.tensors],
        "documents": _documents(history),
        "report": (folder / "report.html").is_file(),
    }  # fmt: skip
    return row if result is None else {**row, **_of_result(result)}


def state_of(history: History) -> str:
    """finished, running, stopped, or broken: the result is no result."""
    if history.result is not None:
        return "finished"
    if history.broken:
        return "broken"
    return "running" if time.time() - history.last_time < ALIVE_S else "stopped"


def _of_result(result: dict[str, Any]) -> Row:
    verdict = result["eligibility"]
    seconds = [
        [words.stage_label(stage), result["seconds"][stage], budget["name"],
         stage in result["reused"]]
        for budget in result["budgets"]
        for stage in budget["what"]
    ]  # fmt: skip
    scores = {name: score for name, score in result["bpb"].items() if score is not None}
    return {
        "name": result["name"],
        "seed": result["seed"],
        "bpb": {name: _round(score["bpb"]) for name, score in scores.items()},
        "control": None if result["control"] is None else _round(result["control"]["bpb"]),
        "scored": scored_bytes(result),
        "eligible": verdict["eligible"],
        "track": verdict["track"],
        "why": [*verdict["reasons"], *verdict["notes"]],
        "bytes": result["artifact"],
        "seconds": seconds,
        "limits": {b["name"]: b["limit_s"] for b in result["budgets"] if b["limit_s"] is not None},
    }


def _method(history: History) -> str:
    """The option of test-time training, by its module; "" where that is not known."""
    return ".".join(str(_ttt(history).get("_target_", "")).split(".")[-2:-1])


def _epochs(history: History) -> int | None:
    """Epochs of test-time training; 0 without any, None for methods that have no such setting."""
    epochs = _ttt(history).get("epochs", 0 if _method(history) == "none" else None)
    return epochs if isinstance(epochs, int) else None


def _ttt(history: History) -> dict[str, Any]:
    """The settings of test-time training; {} where the configuration has none."""
    ttt = history.config.get("ttt")
    return ttt if isinstance(ttt, dict) else {}


def loss_columns(curve: Curve, points: int) -> Row | None:
    """The training loss by step, seconds and tokens; `rate` are tokens a step where always equal.

    Args:
        curve: step, seconds, tokens, loss.
        points: at most so many, chosen to keep the curve's shape.
    """
    if not len(curve):
        return None
    steps, seconds, tokens, losses = curve.columns
    kept = lttb(steps, losses, max(3, points))
    rates = {tokens[i] / steps[i] if steps[i] else math.nan for i in kept}
    rate = rates.pop() if len(rates) == 1 else math.nan
    constant = math.isfinite(rate)
    return {
        "step": [_round(steps[i], 0) for i in kept],
        # A debug run's few seconds would all be the same tenths.
        "seconds": [_round(seconds[i], 1 if seconds[-1] >= 20 else 3) for i in kept],
        "tokens": None if constant else [_round(tokens[i], 0) for i in kept],
        "rate": _round(rate, 3) if constant else None,
        "loss": [_round(losses[i], 4) for i in kept],
    }


def _columns(curve: Curve, names: Sequence[str], points: int) -> Row | None:
    if not len(curve):
        return None
    # Epochs without a measured BPB still have a loss; one of the two decides which are shown.
    ys = next((c for c in curve.columns[1:] if not any(map(math.isnan, c))), curve.columns[0])
    kept = lttb(curve.columns[0], ys, max(SHORT_POINTS, points))
    return {
        name: [_round(column[i]) for i in kept]
        for name, column in zip(names, curve.columns, strict=True)
    }


def _documents(history: History) -> Row | None:
    """Documents by BPB in bins of equal width between two BPB, `span`.

    `density` is in percent of all documents, those beyond the bins too, per 0.1 BPB: so runs with
    other bins can be compared.
    """
    found = history.documents
    if not found:
        return None
    edges, counts = found["edges"], found["counts"]
    scale = 10.0 / ((edges[1] - edges[0]) * found["count"])
    return {
        "span": [edges[0], edges[-1]],
        "density": [_round(count * scale, 2) for count in counts],
        "median": _round(found["quartiles"][1]),
    }


def _running(curve: Curve) -> Row | None:
    """BPB over the text scored so far, and what adapting gains."""
    found = _columns(curve, ("tokens", "bpb", "unadapted"), RUNNING_POINTS)
    if found is None:
        return None
    pairs = zip(found["bpb"], found["unadapted"], strict=True)
    gain = [None if a is None or b is None else round(b - a, DIGITS) for a, b in pairs]
    return {"tokens": found["tokens"], "bpb": found["bpb"], "gain": gain}


def _round(value: float, digits: int = DIGITS) -> float | int | None:
    if not math.isfinite(value):
        return None
    rounded = round(value, digits)
    return int(rounded) if rounded == int(rounded) else rounded
