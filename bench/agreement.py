"""Do the fused kernels learn and score what the plain path does? On one GPU, on real text.

python bench/agreement.py --data FOLDER [--steps N] [--seeds S ...] [--json] [--save]

Trains the full-size model with scale=single's settings from the same weights on the same batches,
fused and plain, for every seed, and once more with an fp32 embedding; then scores validation with
the trained weights, fused and as the straightforward evaluator does (eager twins, all logits).
FOLDER has prepared shards.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import gpu
import record
import torch
from hydra.utils import instantiate

from pgolf.clock import Clock
from pgolf.config import compose
from pgolf.data.stream import TokenStream
from pgolf.kernel.attention import set_backend
from pgolf.kernel.choice import set_kernels

LAST = 20  # steps whose mean loss stands for the end of a run
ARMS = {"fused": ("fused", "bf16"), "plain": ("plain", "bf16"), "fp32 embedding": ("fused", "fp32")}


def configuration(steps: int, embed_dtype: str) -> dict[str, Any]:
    return compose(
        ["scale=single", "model=recurrent3", "optim=muoneq_r", "hardware=h100x1",
         f"scale.num_steps={steps}", "scale.max_seconds=null", "scale.train_batch_tokens=98304",
         "scale.micro_batch_seqs=48", f"scale.embed_dtype={embed_dtype}"]
    )  # fmt: skip


def train(arm: str, seed: int, steps: int, data: Path) -> tuple[Any, list[float], float]:
    """The trained model, the loss of every step, and seconds of the steps' second half."""
    kind, embed_dtype = ARMS[arm]
    config = configuration(steps, embed_dtype)
    model = gpu.build(kind, config, seed)
    clock = Clock({}, gpu.WORLD.synchronize)
    losses = []
    with tempfile.TemporaryDirectory() as folder:
        # Both with the optimizer of a run: what is compared are the kernels.
        shards = TokenStream.open_training(data)
        loop = gpu.make_loop(model, config, "fused", Path(folder), shards, seed)
        for half in ("first", "second"):
            with clock.phase(half, "bench"):
                losses += [loop.train_step().clone() for _ in range(steps // 2)]
        loop.batches.close()
    return model, torch.stack(losses).tolist(), clock.seconds("second")


def score_both(model: Any, data: Path) -> dict[str, float]:
    """BPB of a part of validation: fused, and with eager twins and all logits."""
    stream = TokenStream.open_validation(data)
    part = TokenStream(stream.ids[:400_000], stream.raw_bytes[:400_000])
    evaluator = instantiate(configuration(2, "bf16")["eval"], _convert_="all")
    model.recurrence(True)
    set_kernels("fused", gpu.GPU, "bf16")
    fused = evaluator.evaluate(model, part, gpu.WORLD).bpb
    set_kernels("plain", gpu.GPU, "bf16")
    straightforward = evaluator.evaluate(gpu.AllLogits(model), part, gpu.WORLD).bpb
    return {"fused": fused, "straightforward": straightforward, "apart": fused - straightforward}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="prepared shards")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1337, 42, 999])
    record.add_options(parser)
    options = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    set_backend("auto", gpu.GPU)
    figures: dict[str, Any] = {"gpu": torch.cuda.get_device_name(gpu.GPU), "steps": options.steps}
    ends: dict[str, list[float]] = {arm: [] for arm in ARMS}
    seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for seed in options.seeds:
        for arm in ARMS:
            model, losses, took = train(arm, seed, options.steps, options.data)
            ends[arm].append(statistics.mean(losses[-LAST:]))
            seconds[arm].append(took)
            line = f"{arm}, seed {seed}: {ends[arm][-1]:.4f}, {took:.1f} s"
            print(line, file=sys.stderr, flush=True)
            if arm == "fused":
                figures[f"bpb, seed {seed}"] = scores = score_both(model, options.data)
                print(scores, file=sys.stderr, flush=True)
            del model
    for arm in ARMS:
        figures[f"loss at the end, {arm}"] = ends[arm]
        pairs = zip(ends[arm], ends["plain"], strict=True)
        figures[f"loss, {arm} over plain - 1"] = [value / plain - 1 for value, plain in pairs]
        pairs = zip(seconds["plain"], seconds[arm], strict=True)
        figures[f"speed, {arm} times plain"] = [plain / value for plain, value in pairs]
    record.finish("agreement", figures, options)


if __name__ == "__main__":
    main()
