"""Names and number formats shared by the table, the sweep's table and the page."""

from __future__ import annotations

from typing import Any

SCORE_LABELS = {
    "trained": "trained weights",
    "ema": "averaged weights",
    "adapted": "after TTT",
    "quantized": "quantized",
    "final": "final",
}
SCORE_DETAILS = {
    "trained": "in memory, before averaging",
    "ema": "in memory, moving average of the weights",
    "adapted": "in memory, after test-time training",
    "quantized": "from the artifact, straightforward evaluation",
    "final": "from the artifact, evaluation as configured",
}
STAGE_LABELS = {
    "train": "training",
    "warm_up": "warm-up",
    "ttt": "test-time training",
    "pack": "quantize and pack",
    "wait": "wait for another run",
    "load": "load artifact",
    "final": "final evaluation",
    "adapt": "test-time training and final score",
    "quantized": "score quantized",
    "control": "score unadapted",
    "score_trained": "score trained",
    "score_ema": "score averaged",
    "score_adapted": "score adapted",
}


def stage_label(stage: str) -> str:
    """A stage in words; an unknown one as it is."""
    return STAGE_LABELS.get(stage, stage.replace("_", " "))


def bpb(value: float) -> str:
    return f"{value:.4f}"


def change(value: float, before: float | None) -> str:
    """The difference to the value before, with its sign."""
    return "" if before is None else f"{value - before:+.4f}"


def seconds(value: float) -> str:
    return f"{value:,.1f}"


def share(part: float, whole: float) -> str:
    """A percentage with as many digits as it takes to see it is not 0 and not 100."""
    percent = 100.0 * part / whole
    return f"{percent:.1f}%" if percent < 99 else f"{percent:.3f}%"


def final_bpb(result: dict[str, Any]) -> float | None:
    score = result["bpb"]["final"]
    return None if score is None else float(score["bpb"])


def verdict(result: dict[str, Any]) -> str:
    return "eligible" if result["eligibility"]["eligible"] else "not eligible"


def held(result: dict[str, Any]) -> str | None:
    """What kept the evaluation from training data and the network; None where no run says."""
    layers = result["provenance"].get("sandbox")
    if layers is None:
        return None
    files, network = layers["filesystem"], layers["network"]
    return f"training data closed: {files}; network closed: {network}"
