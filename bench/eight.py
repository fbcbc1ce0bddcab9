"""Eight workers against one on the CPU: what the number of processes changes, part by part.

python bench/eight.py [--workers N] [--steps N] [--set OVERRIDE ...] [--json] [--save]

launch.py runs the main recipe at nano scale in fp32, with one worker and with N that talk through
gloo, on the same text, seed and global batch, with fewer steps, and with test-time training that
shares its batches (ttt.sync=step; the published kind depends on the number of workers by design).
Control: one worker that takes each batch in N passes, and so adds the same parts up, on one core
and without anybody to talk to: only the order of sums is another. Then parts start from the same
files: N workers quantize the adapted weights of one, and score the artifacts of one, as they are
and adapting meanwhile. Tokens and bytes must be the same; every other figure stands beside its
limit, and one beyond it ends with 1. N has to divide the sequences of a pass.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import record
from safetensors.torch import load_file
from torch import Tensor

from pgolf.artifact import read_artifact
from pgolf.config import load_config
from pgolf.events import read_events
from pgolf.quant.codes import IntTensor

ROOT = Path(__file__).resolve().parents[1]
RECIPE = (
    *("tracking=none", "audit=none", "hardware=cpu", "train.log_every=1", "ttt.diagnostic_every=0"),
    *("ttt.sync=step", "ttt.epochs=2"),
    # No budget of seconds: learning rates and adaptation would follow the clock.
    *("train.max_seconds=null", "limits.train_s=100000", "limits.evaluate_s=100000"),
)
ADAPTIVE = ("score_first", "phased_lora")
PPM = 1e6
# Limits in parts of a million. One fp32 sum in another order is 0.1 of them, but Muon and AdamW
# divide by small numbers, and a code at the edge of two moves by a whole step. So whatever follows
# a step of theirs may be so many times as far apart as the control is.
TIMES = 3.0
LEAST, SAME_ARTIFACT, SAME_CODES = 1.0, 1.0, 1000.0


class Runs:
    """Runs of one text, which share a cache below a temporary folder."""

    def __init__(self, folder: Path, overrides: list[str]) -> None:
        self.folder, self.cache, self.overrides = folder, folder / "cache", overrides
        self.environment = {**os.environ, "PGOLF_CACHE": str(self.cache)}

    def launch(self, workers: int, *overrides: str, cores: set[int] | None = None) -> Run:
        """Run launch.py to its end, perhaps on some cores alone: a worker has a thread for each."""
        named = {o.partition("=")[0]: o for o in (*RECIPE, *self.overrides, *overrides)}
        if any(o.startswith("ttt=") for o in overrides):  # of another method's settings
            named = {key: o for key, o in named.items() if not key.startswith("ttt.")}
        command = [sys.executable, str(ROOT / "launch.py"), *named.values()]
        text = self._run([*command, f"hardware.num_workers={workers}"], cores).stderr
        found = re.search(r"^run \S+ in (.+)$", text, re.MULTILINE)
        assert found, text
        return Run(Path(found[1]), self.cache)

    def in_passes(self, run: Run, passes: int) -> Run:
        """That run with every batch, and the same calibration text, in so many times the passes."""
        size, batches = run.config["train"]["micro_batch_seqs"], run.config["quant"]
        smaller = (
            f"train.micro_batch_seqs={size // passes}",
            f"quant.calibration_batches={batches['calibration_batches'] * passes}",
        )
        return self.launch(1, *smaller, cores={min(os.sched_getaffinity(0))})

    def evaluate(self, run: Run, workers: int) -> dict[str, Any]:
        """The final score of a run's artifact, by so many workers."""
        command = [sys.executable, "-m", "pgolf.cli", "evaluate", str(run.folder), "--json"]
        answer = self._run([*command, f"hardware.num_workers={workers}"]).stdout
        score: dict[str, Any] = json.loads(answer)
        return score

    def _run(
        self, command: list[str], cores: set[int] | None = None
    ) -> subprocess.CompletedProcess[str]:
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores or before)  # handed down
        try:
            done = subprocess.run(
                command, cwd=self.folder, env=self.environment, capture_output=True, text=True,
                check=False,
            )  # fmt: skip
        finally:
            os.sched_setaffinity(0, before)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return done

    def adapted_alike(self, one: Run, many: Run) -> None:
        """Put one's adapted weights in the place of many's, whose codes are to be made anew."""
        target = self.cache / "ttt" / many.keys["ttt"]
        shutil.rmtree(target)
        shutil.copytree(self.cache / "ttt" / one.keys["ttt"], target)
        shutil.rmtree(self.cache / "pack" / many.keys["pack"])


class Run:
    """A finished run: its folder and its stages in the cache."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache = folder, cache
        self.events = list(read_events(folder / "events.jsonl"))
        self.config = load_config(folder)
        stages = [e for e in self.events if e["event"] == "stage" and "key" in e]
        self.keys = {e["stage"]: e["key"] for e in stages}
        # Now: a later run may make the stages of this one anew.
        self.codes = read_artifact(folder / "artifact").codes.tensors
        self.weights = {
            name: load_file(cache / stage / self.keys[stage] / f"{name}.safetensors")
            for stage, name in (("train", "ema"), ("ttt", "adapted"))
        }

    def losses(self, kind: str) -> list[float]:
        return [e["train/loss"] for e in self.events if e["event"] == kind]

    def score(self) -> dict[str, Any]:
        result = json.loads((self.folder / "result.json").read_text(encoding="utf-8"))
        score: dict[str, Any] = result["bpb"]["final"]
        return score


def ppm(one: float, many: float) -> float:
    return abs(many - one) / abs(one) * PPM


def losses_apart(one: list[float], many: list[float]) -> float:
    """The largest difference of any step."""
    return max(ppm(a, b) for a, b in zip(one, many, strict=True))


def weights_apart(one: dict[str, Tensor], many: dict[str, Tensor]) -> float:
    """The largest relative difference of any tensor, by its norm."""
    return PPM * max(
        float((many[name].double() - weight.double()).norm() / weight.double().norm())
        for name, weight in one.items()
        if weight.any()
    )


def codes_apart(one: Run, many: Run) -> dict[str, Any]:
    """How many codes of all matrices differ, in how many rows, and by how many steps at most.

    What a code leaves is passed on to later ones of its row, so that one at the edge of two may
    move others, by more than a step. A row without any that moved by one has another reason.
    """
    total = different = rows = steps = other = 0
    for name, value in one.codes.items():
        if isinstance(value, IntTensor):
            apart_RC = (value.codes.int() - many.codes[name].codes.int()).abs()
            total, different = total + apart_RC.numel(), different + int((apart_RC > 0).sum())
            moved_R = (apart_RC > 0).any(dim=1)
            rows, steps = rows + int(moved_R.sum()), max(steps, int(apart_RC.max()))
            other += int((moved_R & ~(apart_RC == 1).any(dim=1)).sum())
    return {"codes": total, "different": different, "rows": rows, "largest step": steps,
            "rows without a step of 1": other, "apart, ppm": different / total * PPM}  # fmt: skip


def scores_apart(one: dict[str, Any], many: dict[str, Any]) -> dict[str, Any]:
    """Bits per byte, of the same tokens and bytes."""
    return {
        **{"of one": one["bpb"], "of many": many["bpb"], "tokens": one["tokens"]},
        "same text": all(one[key] == many[key] for key in ("tokens", "bytes")),
        "apart, ppm": ppm(one["bpb"], many["bpb"]),
    }


def all_apart(one: Run, many: Run) -> dict[str, dict[str, Any]]:
    """From the first step to the final score."""
    losses = {kind: (one.losses(kind), many.losses(kind)) for kind in ("train_step", "ttt_epoch")}
    found = {
        "training loss": {"apart, ppm": losses_apart(*losses["train_step"])},
        "averaged weights": {"apart, ppm": weights_apart(one.weights["ema"], many.weights["ema"])},
        "test-time training loss": {"apart, ppm": losses_apart(*losses["ttt_epoch"])},
        "adapted weights": {
            "apart, ppm": weights_apart(one.weights["adapted"], many.weights["adapted"])
        },
        "codes": codes_apart(one, many),
        "sliding score": scores_apart(one.score(), many.score()),
    }
    return {f"{name}, in the end": figures for name, figures in found.items()}


def judged(figures: dict[str, Any], limit: float) -> dict[str, Any]:
    """With the limit and whether it holds, as does what must be the same."""
    holds = figures["apart, ppm"] <= limit and figures.get("same text", True)
    holds = holds and not figures.get("rows without a step of 1", 0)
    return {**figures, "limit, ppm": limit, "holds": holds}


def compare(runs: Runs, workers: int) -> dict[str, dict[str, Any]]:
    """All comparisons, each with whether it holds."""
    one, many = runs.launch(1), runs.launch(workers)
    control = all_apart(one, runs.in_passes(one, workers))
    found = {}
    for name, figures in all_apart(one, many).items():
        by_order = control[name]["apart, ppm"]
        limit = max(LEAST, TIMES * by_order)
        found[name] = judged({**figures, "control, ppm": by_order}, limit)
    runs.adapted_alike(one, many)
    again = runs.launch(workers)
    assert again.keys == many.keys, "pgolf's code changed meanwhile"
    codes = codes_apart(one, again)
    codes["bpb, ppm"] = ppm(one.score()["bpb"], again.score()["bpb"])
    found["codes of the same weights"] = judged(codes, SAME_CODES)
    score = scores_apart(one.score(), runs.evaluate(one, workers))
    found["sliding score of the same artifact"] = judged(score, SAME_ARTIFACT)
    for method in ADAPTIVE:
        adaptive = runs.launch(1, f"ttt={method}")
        score = scores_apart(adaptive.score(), runs.evaluate(adaptive, workers))
        found[f"{method}, score of the same artifact"] = judged(score, SAME_ARTIFACT)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--set", nargs="*", default=[], help="other overrides of launch.py")
    record.add_options(parser)
    options = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Path(folder), [f"train.num_steps={options.steps}", *options.set])
        found = compare(runs, options.workers)
    facts = {"workers": options.workers, "steps": options.steps}
    seconds = round(time.perf_counter() - start)
    record.finish("eight", {**facts, "seconds": seconds, **found}, options)
    broken = [name for name, figures in found.items() if not figures["holds"]]
    if broken:
        sys.exit(f"beyond the limit: {', '.join(broken)}")


if __name__ == "__main__":
    main()
