"""Several GPUs of one host beside one: speed, and whether they compute the same.

python bench/scaling.py [--gpus N ...] [--data FOLDER] [--steps N] [--passes N] [--json] [--save]

Starts itself under torchrun, first with one GPU and then with each N, on the same batches: tokens a
second of training steps without and with recurrence, the share of a step in communication, the loss
curve, an epoch of test-time training, and a sliding score of the adapted weights. FOLDER has
prepared shards; without it the text is random tokens, whose loss only falls to its entropy.

With --passes N every GPU takes N passes of 48 sequences a step, whatever their number, and only
steps are timed. A step of the recipe has one pass on each of 8 GPUs, so that 1 shows there what
communication and the optimizer cost beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import gpu
import record
import torch
from hydra.utils import instantiate

from pgolf.checkpoint import Checkpoints
from pgolf.clock import Clock
from pgolf.data.loader import GlobalLoader
from pgolf.data.stream import TokenStream
from pgolf.distributed import World, join_world
from pgolf.events import EventLog
from pgolf.kernel.attention import set_backend
from pgolf.kernel.choice import set_kernels
from pgolf.train.profile import profiled
from pgolf.train.trainer import _Loop

TIMED_STEPS = 6
SEED = 0


def measure(world: World, data: Path | None, steps: int, passes: int | None) -> dict[str, Any]:
    """All figures of one world; the same on every rank but for times."""
    config = gpu.full_size()
    torch.manual_seed(SEED)
    model = instantiate(config["model"], _convert_="all").to(world.device)
    trainer = instantiate(config["train"], _convert_="all")
    if passes is not None:
        trainer.batch_seqs = passes * trainer.micro_batch_seqs * world.world_size
    optimizer = instantiate(config["optim"], _partial_=True, _convert_="all")(
        list(model.named_parameters()), world
    )
    shards = TokenStream.open_training(data) if data else [gpu.tokens(20_000_000)]
    loader = GlobalLoader(shards, seq_len=gpu.SEQ_LEN, seed=SEED)
    clock = Clock({}, world.synchronize)
    figures: dict[str, Any] = {"losses": []}
    with tempfile.TemporaryDirectory() as folder:
        loop = _Loop(
            trainer, model, optimizer, loader, world, clock, EventLog(None),
            Checkpoints(Path(folder)),
        )  # fmt: skip
        for on in (False, True):
            loop.settings.recurrence_start_frac = 0.0 if on else 2.0
            for _ in range(steps):
                figures["losses"].append(float(world.mean_(loop.train_step())))
            seconds = gpu.median_s(loop.train_step, TIMED_STEPS, warm_up=1)
            name = "on" if on else "off"
            figures[f"tokens_per_s_{name}"] = trainer.batch_seqs * gpu.SEQ_LEN / seconds
            found = profiled(loop.train_step, world.device)
            communication = found["kinds"].get("communication", 0.0)
            figures[f"communication_{name}"] = communication / found["wall_ms"]
            figures[f"kinds_{name}"] = {"idle": found["idle_ms"], **found["kinds"]}
        loop.batches.close()
    if passes is None:
        figures |= adapt_and_score(model, config, world, clock, data)
    figures["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return figures


def adapt_and_score(
    model: Any, config: dict[str, Any], world: World, clock: Clock, data: Path | None
) -> dict[str, Any]:
    """Two epochs of test-time training on a part of validation, then a sliding score of it."""
    stream = TokenStream.open_validation(data) if data else gpu.tokens(300_000, seed=1)
    ttt = instantiate(config["ttt"], _convert_="all")
    evaluator = instantiate(config["eval"], _convert_="all")
    ttt.epochs, ttt.diagnostic_every = 2, 0
    before = evaluator.evaluate(model, stream, world)
    with clock.phase("ttt", "bench"):
        ttt.adapt(model, stream, world, clock, EventLog(None), lambda model: before)
    with clock.phase("sliding", "bench"):
        after = evaluator.evaluate(model, stream, world)
    return {
        "bpb": before.bpb, "bpb after ttt": after.bpb, "tokens": after.tokens,
        "ttt, s": clock.seconds("ttt"), "sliding, s": clock.seconds("sliding"),
    }  # fmt: skip


def run_world(num_gpus: int, data: Path | None, steps: int, passes: int | None) -> dict[str, Any]:
    """This script under torchrun; returns what its main rank wrote."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(num_gpus), __file__, "--worker", file.name]
        command += ["--steps", str(steps), *(["--data", str(data)] if data else [])]
        command += ["--passes", str(passes)] if passes is not None else []
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "8"})
        found: dict[str, Any] = json.loads(Path(file.name).read_text())
        return found


def compare(one: dict[str, Any], many: dict[str, Any], num_gpus: int) -> dict[str, Any]:
    """Both worlds side by side, as ratios where they are times."""
    figures: dict[str, Any] = {}
    for name in ("off", "on"):
        key = f"tokens_per_s_{name}"
        figures[f"{name}, 1 GPU, tokens/s"] = one[key]
        figures[f"{name}, {num_gpus} GPUs, tokens/s"] = many[key]
        figures[f"{name}, times one"] = many[key] / one[key]
        figures[f"{name}, share of the step in communication"] = many[f"communication_{name}"]
        figures[f"{name}, ms of a step by kind, {num_gpus} GPUs"] = many[f"kinds_{name}"]
    if "bpb" not in one:
        return figures
    for key in ("ttt, s", "sliding, s"):
        figures[f"{key}, 1 GPU over {num_gpus}"] = one[key] / many[key]
    apart = [abs(a - b) / a for a, b in zip(one["losses"], many["losses"], strict=True)]
    figures |= {
        "losses of one": [round(loss, 4) for loss in one["losses"][:: len(one["losses"]) // 8]],
        "losses apart, largest": max(apart), "losses apart, median": statistics.median(apart),
    }  # fmt: skip
    for key in ("bpb", "bpb after ttt", "tokens", "peak_gb"):
        figures[f"{key}, 1 and {num_gpus} GPUs"] = [one[key], many[key]]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpus", type=int, nargs="+", default=[2])
    parser.add_argument("--data", type=Path, default=None, help="prepared shards")
    parser.add_argument("--steps", type=int, default=12, help="compared steps of each mode")
    parser.add_argument("--passes", type=int, default=None, help="of a GPU in a step")
    parser.add_argument("--worker", type=Path, default=None, help=argparse.SUPPRESS)
    record.add_options(parser)
    options = parser.parse_args()
    if options.worker is None:
        worlds = {
            n: run_world(n, options.data, options.steps, options.passes) for n in (1, *options.gpus)
        }
        name = "_".join(map(str, ("scaling", *options.gpus)))
        name += "" if options.passes is None else f"_passes_{options.passes}"
        found = {f"{n} GPUs": compare(worlds[1], worlds[n], n) for n in options.gpus}
        record.finish(name, found, options)
        return
    torch.set_float32_matmul_precision("high")
    with join_world("cuda", "bf16") as world:
        set_backend("auto", world.device)
        set_kernels("auto", world.device, world.precision)
        figures = measure(world, options.data, options.steps, options.passes)
        if world.is_main:
            options.worker.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
