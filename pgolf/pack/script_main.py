"""The main program of a packed script: train, adapt, quantize, pack, and evaluate the artifact.

It runs the same parts as the worker jobs of a run, in their order, in one process a rank.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pgolf.clock import Clock
from pgolf.data.stream import TokenStream
from pgolf.distributed import World, join_world
from pgolf.evaluate import evaluate
from pgolf.files import sha256_file
from pgolf.hardware import Devices, Hardware
from pgolf.pack.published_log import RULE, Log, final_line, settings_lines, size_lines
from pgolf.pack.script_parts import FACTS
from pgolf.produce import Parts
from pgolf.provenance import environment
from pgolf.worker import seed_everything


class Script:
    """What the parts ask of their surroundings: job, world, clock, and where words go."""

    def __init__(self, job: dict[str, Any], world: World, log: Log) -> None:
        self.job, self.world, self.events, self.say = job, world, log, log
        self.clock = Clock(job["limits"], world.synchronize)
        self.cache = Path(job["folder"])
        self.stage = "start"


class ScriptParts(Parts):
    """The parts of the produce job; what a stage leaves lies in a folder of its name."""

    def stage_folder(self, name: str) -> Path:
        folder = Path(self.context.cache) / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def main() -> None:
    """Run everything; the number of workers is torchrun's."""
    options = parse()
    devices = settle(FACTS["config"]["hardware"])
    torch.set_num_threads(devices.threads)
    torch.set_float32_matmul_precision("high")
    with join_world(devices.device, devices.precision) as world:
        job = job_of(options, devices)
        # The log of the training, which may lie here, is not written over by a mere score.
        name = f"{'evaluate' if options.evaluate else 'train'}_seed{options.seed}.log"
        file = Path(name) if world.is_main else None
        log = Log(file, FACTS["config"]["train"]["num_steps"])
        if world.is_main:
            Path(job["folder"]).mkdir(parents=True, exist_ok=True)
        world.barrier()
        header(log, job)
        seed_everything(options.seed)
        script: Any = Script(job, world, log)
        if options.evaluate is None:
            produce(script)
            torch.cuda.empty_cache()
        seed_everything(options.seed)
        finish(script)
    sys.stdout.flush()
    os._exit(0)  # gloo's threads abort a process once in a while when the interpreter ends


def parse() -> argparse.Namespace:
    """Seed and folders, from the command line or the environment."""
    seed, data = environment("SEED"), environment("DATA_PATH")
    parser = argparse.ArgumentParser(description=FACTS["name"])
    parser.add_argument("--seed", type=int, default=int(seed or FACTS["config"]["seed"]))
    parser.add_argument("--data", default=data or FACTS["data"], help="shards, or $DATA_PATH")
    parser.add_argument("--out", default=environment("OUT_DIR"), help="weights and artifact")
    parser.add_argument("--evaluate", metavar="FILE", help="score this model.pgolf, train nothing")
    options = parser.parse_args()
    options.out = options.out or f"out_seed{options.seed}"
    return options


def settle(hardware: dict[str, Any]) -> Devices:
    """The devices of the packed run for as many workers as torchrun has started."""
    settings = {key: value for key, value in hardware.items() if not key.startswith("_")}
    settings["num_workers"] = int(environment("WORLD_SIZE") or 1)
    return Hardware(**settings).settle()


def job_of(options: argparse.Namespace, devices: Devices) -> dict[str, Any]:
    """What the parts of both jobs are told, in one."""
    config = FACTS["config"]
    return {
        "config": config,
        "seed": options.seed,
        "folder": options.out,
        "evaluate": options.evaluate,
        "data_folder": options.data,
        "devices": devices.as_dict(),
        "limits": {
            "train": config["limits"]["train_s"],
            "evaluate": config["limits"]["evaluate_s"],
        },
        "tokenizer_fingerprint": FACTS["tokenizer_fingerprint"],
        "ttt": FACTS["ttt_before"],
        "standard": FACTS["standard"],
        "eval": config["eval"],
    }


def header(log: Log, job: dict[str, Any]) -> None:
    """What runs, and with what."""
    script = Path(sys.argv[0])
    log(f"{FACTS['name']}: {FACTS['label']}")
    log(f"script {script.name} sha256 {sha256_file(script)}, torch {torch.__version__}")
    for line in settings_lines(FACTS["config"], job["seed"]):
        log(line)
    log(f"  data_path: {job['data_folder']}")
    log(RULE)


def produce(script: Any) -> None:
    """Train, score the average, adapt, score, quantize and pack."""
    parts, log = ScriptParts(script), script.say
    done = parts.train(parts.stage_folder("train"))
    log(f"stopping_early: train_time:{1000 * done['seconds']:.0f}ms step:{done['steps']}")
    with charged(script, "score_ema", "diagnostic"):
        scored(log, parts.score(parts.stage_folder("score"), "ema", "train", "ema"))
    with charged(script, "ttt", "train"):
        adapted = parts.adapt(parts.stage_folder("ttt"))
    log(f"ttt: {adapted['reason']}, {script.clock.seconds('ttt'):.1f} s")
    with charged(script, "score_adapted", "diagnostic"):
        scored(log, parts.score(parts.stage_folder("score"), "adapted", "ttt", "adapted"))
    with charged(script, "pack", "train"):
        info = parts.pack(parts.stage_folder("pack"))
    if script.world.is_main:
        code_bytes = Path(sys.argv[0]).stat().st_size
        codec = FACTS["config"]["codec"]["_target_"].rpartition(".")[2]
        for line in size_lines(codec, info["model_bytes"], code_bytes):
            log(line)
    script.world.barrier()


def finish(script: Any) -> None:
    """Score the artifact, read from its bytes."""
    job, folder = script.job, Path(script.job["folder"])
    job |= {
        "ttt": FACTS["ttt_later"],
        "artifact": job["evaluate"] or str(folder / "pack" / "artifact"),
        "output": str(folder / "scores.json"),
        # Every document begins with it, so the first one does.
        "bos_id": int(TokenStream.open_validation(Path(job["data_folder"])).ids[0]),
    }
    evaluate(script)
    if script.world.is_main:
        scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
        script.say(final_line(scores["final"]))
        script.say(f"finished {time.strftime('%Y-%m-%d %H:%M:%S')}")


def scored(log: Log, info: dict[str, Any]) -> None:
    log.emit("score", "produce", name=info["name"], **info["score"])


@contextmanager
def charged(script: Any, name: str, budget: str) -> Iterator[None]:
    """The seconds of a stage, charged to a budget; every rank has ended it."""
    script.stage = name
    with script.clock.phase(name, budget):
        yield
    script.world.barrier()
