"""A made-up but realistic run: result, events and configuration, generated."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from pgolf import provenance
from pgolf.result import build_result, judge_eligibility

BYTES, TOKENS = 1_204_311, 452_190
BUDGET_OF = {
    "train": "train",
    "ttt": "train",
    "pack": "train",
    "score_trained": "diagnostic",
    "score_ema": "diagnostic",
    "score_adapted": "diagnostic",
    "quantized": "diagnostic",
    "load": "evaluate",
    "final": "evaluate",
}
SECONDS = {
    "train": 78.41, "score_trained": 3.12, "score_ema": 3.08, "ttt": 31.77, "score_adapted": 3.1,
    "pack": 6.2, "load": 0.84, "quantized": 3.3, "final": 11.92,
}  # fmt: skip
BPB = {"trained": 2.0731, "ema": 2.0612, "adapted": 1.8824, "quantized": 1.8951, "final": 1.8467}
REASON = (
    "Test-time training adapts to the validation text before that text is scored, over several "
    "epochs: this breaks condition 3 (score before update) of issue #1017."
)


def score(bpb: float) -> dict[str, float]:
    nats = bpb * math.log(2.0) * BYTES
    return {
        "bpb": nats / math.log(2.0) / BYTES,
        "nats": nats,
        "nats_per_token": nats / TOKENS,
        "tokens": TOKENS,
        "bytes": BYTES,
    }


def make_result(
    *,
    eligible: bool = False,
    seed: int = 1337,
    shift: float = 0.0,
    model_bytes: int = 912_345,
    epochs: int = 21,
    reused: tuple[str, ...] = (),
    overrides: tuple[str, ...] | None = None,
    train_limit_s: float = 600.0,
) -> dict[str, Any]:
    """A checked result; `shift` moves every BPB, `eligible` leaves the test-time training out."""
    names = [name for name in BPB if not (eligible and name == "adapted")]
    scores = {name: score(BPB[name] + shift) for name in names}
    seconds = {k: v for k, v in SECONDS.items() if not (eligible and k in ("ttt", "score_adapted"))}
    if overrides is None:
        overrides = (f"ttt={'none' if eligible else 'prequant21'}", f"seed={seed}")
    charged = sum(value for stage, value in seconds.items() if BUDGET_OF[stage] == "train")
    budgets = [{"name": "train", "limit_s": train_limit_s, "charged_s": charged}]
    verdict = judge_eligibility(
        ttt_eligible=eligible, ttt_reason="" if eligible else REASON, adaptive=False,
        total_bytes=model_bytes + 41_220, budgets=budgets, calibration="training text",
        scored_bytes=BYTES, document_bytes=BYTES, scored_tokens=TOKENS, stream_tokens=TOKENS + 1,
        official_validation=False,
    )  # fmt: skip
    config = {"seed": seed, "ttt": {"epochs": epochs}, "eligible": eligible}
    return build_result(
        run_id=f"20261124-081502-{seed:x}",
        name="recurrent3-nano",
        seed=seed,
        overrides=overrides,
        scores=scores,
        artifact={"model_bytes": model_bytes, "code_bytes": 41_220},
        seconds=seconds,
        budget_of=BUDGET_OF,
        limits_s={"train": train_limit_s, "evaluate": 600.0},
        eligibility=verdict,
        provenance=provenance.collect(command=["launch.py", *overrides]),
        config_hash=provenance.config_hash(config),
        control=None if eligible else score(BPB["ema"] + 0.03 + shift),
        reused=reused,
    )


def make_events(*, num_steps: int = 300, epochs: int = 21, bpb: bool = True) -> list[dict]:
    """Events of the same run: a noisy falling loss, then TTT epochs, then scores and stages."""
    noise = random.Random(7)
    events: list[dict] = [{"time": 0.0, "event": "stage", "stage": "train", "status": "start"}]
    for step in [1, *range(5, num_steps + 1, 5)]:
        loss = 2.55 + 4.4 * math.exp(-step / 35) + math.exp(-step / 190) + noise.gauss(0, 0.03)
        events.append({
            "time": step * 0.25, "event": "train_step", "stage": "train", "step": step,
            "elapsed_s": step * 0.26, "tokens": step * 8192, "train/loss": loss,
            "train/lr_scale": min(1.0, (1 - step / num_steps) / 0.72),
            "perf/tokens_per_s": 31_400 + noise.gauss(0, 200),
        })  # fmt: skip
    for epoch in range(1, epochs + 1):
        row = {
            "time": 90.0 + epoch, "event": "ttt_epoch", "stage": "ttt", "epoch": epoch,
            "lr": 5e-4 * (0.55 + 0.45 * math.cos(math.pi * epoch / epochs)),
            "train/loss": 2.5 - 0.3 * epoch / epochs,
        }  # fmt: skip
        if bpb:
            row["val/bpb"] = 1.8824 + 0.179 * math.exp(-epoch / 6)
        events.append(row)
    for stage, seconds in SECONDS.items():
        events.append({"event": "stage", "stage": stage, "status": "done", "seconds": seconds})
    for name, value in BPB.items():
        events.append({"event": "score", "stage": "train", "name": name, **score(value)})
    return events


CONFIG = """\
seed: 1337
model:
  _target_: pgolf.model.recurrent.RecurrentGPT
  num_layers: 6
  model_dim: 128
ttt:
  _target_: pgolf.ttt.prequant.PrequantTTT
  epochs: 21
  lr: 0.0005
name: <b>not markup</b>
"""


def make_run(folder: Path, **settings: Any) -> Path:
    """Write a run folder; `settings` go to `make_result`."""
    folder.mkdir(parents=True, exist_ok=True)
    result = make_result(**settings)
    events = make_events(epochs=0 if settings.get("eligible") else 21)
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "log.txt").write_text("2026-11-24 08:15:02  started\n")
    return folder
