"""How long the comparison page of many runs takes, and how large it is.

python bench/report.py [--runs 500] [--events 2000] [--json] [--save]: makes up runs (five seeds of
each configuration) with as many events, reads them, writes the page, then asks a live board once
more, when one run has gone on.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import record
from omegaconf import OmegaConf

from pgolf.config import compose
from pgolf.outcome import BUDGET_OF
from pgolf.provenance import config_hash
from pgolf.report.board import write_board
from pgolf.report.serve import LiveBoard
from pgolf.result import build_result, judge_eligibility

SEEDS = (1337, 42, 999, 7, 2026)
BYTES, TOKENS = 1_204_311, 452_190
EPOCHS = 21


def score(bpb: float) -> dict[str, float]:
    """A score that agrees with itself."""
    nats = bpb * math.log(2.0) * BYTES
    exact = nats / math.log(2.0) / BYTES
    return {"bpb": exact, "nats": nats, "nats_per_token": nats / TOKENS, "tokens": TOKENS,
            "bytes": BYTES}  # fmt: skip


def make_events(num_events: int, noise: random.Random) -> list[dict[str, Any]]:
    """A noisy falling loss, epochs of test-time training, bytes by tensor, and the stages."""
    num_other = EPOCHS + len(BUDGET_OF) + 2
    events: list[dict[str, Any]] = []
    for step in range(1, num_events - num_other + 1):
        loss = 2.5 + 4.4 * math.exp(-step / 90) + math.exp(-step / 900) + noise.gauss(0, 0.03)
        events.append({
            "time": 1.79e9 + step * 0.31, "event": "train_step", "stage": "train", "step": step,
            "elapsed_s": round(step * 0.3127, 3), "tokens": step * 524_288, "train/loss": loss,
            "train/lr_scale": 1 - step / num_events, "perf/tokens_per_s": noise.gauss(3e6, 2e4),
        })  # fmt: skip
    for epoch in range(1, EPOCHS + 1):
        events.append({
            "event": "ttt_epoch", "stage": "ttt", "epoch": epoch, "lr": 5e-4,
            "train/loss": 2.5 - epoch / 70, "val/bpb": 1.9 + 0.2 * math.exp(-epoch / 6),
        })  # fmt: skip
    rows = [
        {"name": f"blocks.{i // 6}.part{i % 6}.weight", "encoded_bytes": noise.randrange(400_000)}
        for i in range(66)
    ]
    events.append({"event": "tensors", "stage": "pack", "rows": rows})
    events.append(documents(noise))
    events += [
        {"event": "stage", "stage": name, "status": "done", "seconds": 3.0} for name in BUDGET_OF
    ]
    return events


def documents(noise: random.Random) -> dict[str, Any]:
    """The final score of 50,000 documents, as `pgolf.documents` tells it, without their text."""
    edges = [0.7 + 0.03 * i for i in range(31)]
    return {
        "event": "documents", "stage": "final", "count": 50_000, "edges": edges,
        "counts": [noise.randrange(4000) for _ in range(30)], "quartiles": [0.9, 1.05, 1.2],
    }  # fmt: skip


def make_run(folder: Path, config: dict[str, Any], num_events: int, noise: random.Random) -> None:
    """A run folder as pgolf writes it, without an artifact."""
    folder.mkdir(parents=True)
    bpb = 1.06 + noise.gauss(0, 0.003) - 0.001 * config["scale"]["num_layers"]
    model_bytes = noise.randrange(12_000_000, 16_400_000)
    seconds = {name: round(noise.uniform(1, 60), 3) for name in BUDGET_OF}
    verdict = judge_eligibility(
        ttt_eligible=True, ttt_reason="", adaptive=False, total_bytes=model_bytes + 50_000,
        budgets=[], calibration="training text", scored_bytes=BYTES, document_bytes=BYTES,
        scored_tokens=TOKENS, stream_tokens=TOKENS + 1, official_validation=False,
    )  # fmt: skip
    names = ("trained", "ema", "adapted", "quantized", "final")
    result = build_result(
        run_id=folder.name, name=config["name"], seed=config["seed"],
        overrides=[f"scale.num_layers={config['scale']['num_layers']}", f"seed={config['seed']}"],
        scores={name: score(bpb + 0.004 * i) for i, name in enumerate(names)},
        artifact={"model_bytes": model_bytes, "code_bytes": 50_000}, seconds=seconds,
        budget_of=BUDGET_OF, limits_s={"train": 600.0, "evaluate": 600.0}, eligibility=verdict,
        provenance={}, config_hash=config_hash(config),
    )  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config), encoding="utf-8")
    lines = (json.dumps(event) + "\n" for event in make_events(num_events, noise))
    (folder / "events.jsonl").write_text("".join(lines), encoding="utf-8")


def make_runs(folder: Path, num_runs: int, num_events: int) -> None:
    """`num_runs` run folders; every configuration has another number of layers."""
    config, noise = compose([]), random.Random(1337)
    for index in range(num_runs):
        config["seed"] = SEEDS[index % len(SEEDS)]
        config["scale"]["num_layers"] = index // len(SEEDS)
        make_run(folder / config["name"] / f"run-{index:04}", config, num_events, noise)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--keep", type=Path, help="write runs and page here, and leave them")
    record.add_options(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        make_runs(folder, options.runs, options.events)
        start, used = time.perf_counter(), time.process_time()
        page = write_board([folder], folder / "comparison.html")
        built, used = time.perf_counter(), time.process_time() - used
        size = page.stat().st_size
        board = LiveBoard([folder])
        version = board.news("")["version"]
        with open(sorted(folder.glob("*/run-*/events.jsonl"))[0], "a", encoding="utf-8") as log:
            row = {"event": "train_step", "step": 10**6, "elapsed_s": 700, "tokens": 5e11}
            log.write(json.dumps({**row, "train/loss": 2.5}) + "\n")
        time.sleep(1.0)
        asked = time.perf_counter()
        news = board.news(version)
        answered = time.perf_counter()
    figures = {
        "runs": options.runs,
        "events a run": options.events,
        "seconds to build the page": built - start,
        "of them on the processor": used,
        "bytes of the page": size,
        "seconds of a live look": answered - asked,
        "runs in its answer": len(news["rows"]),
    }
    record.finish("report", figures, options)


if __name__ == "__main__":
    main()
