"""The full-size model on one GPU: pgolf beside its plain path and beside the published figures.

python bench/gpu.py [--only ROW ...] [--rounds N] [--profile FOLDER] [--json] [--save]

"plain" is the same mathematics without what pgolf adds: eager twins of all kernels under
torch.compile, an optimizer that loops over matrices, and an evaluator that computes all logits.
Both run in this process on this GPU, on random tokens; "published" are the figures of the recipe's
own script on one H100, measured on another day. Every figure is a rate or a time of its own median.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optimizer as optimizers
import record
import torch
from hydra.utils import instantiate
from torch import Tensor, nn

from pgolf.checkpoint import Checkpoints
from pgolf.clock import Clock
from pgolf.config import compose
from pgolf.data.loader import GlobalLoader
from pgolf.data.stream import TokenStream
from pgolf.distributed import World
from pgolf.eval.sliding import SlidingEvaluator
from pgolf.eval.standard import StandardEvaluator
from pgolf.events import EventLog
from pgolf.kernel.attention import set_backend
from pgolf.kernel.choice import compile_blocks, set_kernels
from pgolf.kernel.replay import ForwardBackward
from pgolf.train.profile import profiled, table
from pgolf.train.trainer import Trainer, _Loop
from pgolf.ttt.prequant import PreQuantTTT

# One H100, SDPA flash attention: whole steps are rates of 8 micro-batches, the optimizer is the
# middle of its range with the average, sliding windows have stride 64, an epoch of test-time
# training has 1.3M tokens, the first step is compilation alone.
PUBLISHED = {
    "train_off": 953e3, "train_on": 627e3, "step_off": 862e3, "step_on": 582e3, "sliding": 883.0,
    "optimizer": 57.1, "prequant_ttt": 4.1, "first_step": 109.0,
}  # fmt: skip
SECONDS = {"optimizer", "prequant_ttt", "first_step"}  # smaller is better
MICRO_SEQS, SEQ_LEN, VOCAB, STRIDE = 48, 2048, 8192, 64
GPU = torch.device("cuda", 0)
WORLD = World(device=GPU, precision="bf16")


class AllLogits(nn.Module):
    """A model that computes the logits of every position, as the plain evaluator does."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def nll(self, ids_BT: Tensor, targets_BN: Tensor) -> Tensor:
        logits_BTV = self.model.logits(ids_BT)
        logits_NV = logits_BTV[:, -targets_BN.size(1) :].flatten(0, 1).float()
        losses_N = nn.functional.cross_entropy(logits_NV, targets_BN.flatten(), reduction="none")
        return losses_N.view_as(targets_BN)


def build(kernels: str, config: dict[str, Any], seed: int = 0) -> nn.Module:
    """The model with its own first weights; recurrence off."""
    torch.compiler.reset()
    gc.collect()
    torch.cuda.empty_cache()
    set_kernels(kernels, GPU, "bf16")
    torch.manual_seed(seed)
    model: nn.Module = instantiate(config["model"], _convert_="all").to(GPU)
    if kernels == "plain":
        compile_blocks(model)
    return model


def tokens(count: int, seed: int = 0) -> TokenStream:
    ids = np.random.default_rng(seed).integers(0, VOCAB, count).astype(np.uint16)
    return TokenStream(ids, np.ones(count, np.uint16))


def median_s(work: Callable[[], Any], rounds: int, warm_up: int = 4) -> float:
    """Median seconds of `work`, by events on the GPU."""
    for _ in range(warm_up):
        work()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(rounds + 1)]
    marks[0].record()
    for mark in marks[1:]:
        work()
        mark.record()
    marks[-1].synchronize()
    return statistics.median(a.elapsed_time(b) / 1e3 for a, b in itertools.pairwise(marks))


def forward_backward(model: nn.Module, on: bool) -> Callable[[], Any]:
    tokens_BT = torch.randint(VOCAB, (MICRO_SEQS, SEQ_LEN + 1), device=GPU)
    model.recurrence(on)  # type: ignore[operator]
    run = ForwardBackward(model, WORLD.autocast)
    return lambda: run(tokens_BT[:, :-1], tokens_BT[:, 1:])


def make_loop(
    model: nn.Module,
    config: dict[str, Any],
    kind: str,
    folder: Path,
    shards: list[TokenStream] | None = None,
    seed: int = 0,
) -> _Loop:
    """The trainer's loop; the plain one with the plain optimizer and average.

    Without shards it trains on random tokens.
    """
    trainer: Trainer = instantiate(config["train"], _convert_="all")
    optimizer = instantiate(config["optim"], _partial_=True, _convert_="all")(
        list(model.named_parameters()), WORLD
    )
    loader = GlobalLoader(shards or [tokens(40_000_000)], seq_len=SEQ_LEN, seed=seed)
    clock = Clock({}, WORLD.synchronize)
    events, saved = EventLog(None), Checkpoints(folder)
    loop = _Loop(trainer, model, optimizer, loader, WORLD, clock, events, saved)
    if kind == "plain":
        step, update = optimizers.plain_parts(model, config["optim"], WORLD)
        loop.optimizer, loop.average = _Plain(step, model), _Plain(update, model)  # type: ignore
    return loop


class _Plain:
    """A loop of `bench/optimizer.py` in the place of an optimizer or of an average."""

    def __init__(self, work: Callable[[int], None], model: nn.Module) -> None:
        self.work, self.model = work, model

    def step(self, lr_scale: float, step: int) -> None:
        self.work(step)
        self.model.zero_grad(set_to_none=True)

    def update(self, step: int) -> None:
        self.work(step)


class Rows:
    """Every row of the table is a method: `row(kind) -> rate or seconds`."""

    def __init__(self, config: dict[str, Any], rounds: int, profiles: Path | None) -> None:
        self.config, self.rounds, self.profiles = config, rounds, profiles
        self.extra: dict[str, Any] = {}

    def train(self, kind: str, on: bool) -> float:
        model = build(kind, self.config)
        work = forward_backward(model, on)
        seconds = median_s(work, self.rounds)
        name = f"{kind}_{'on' if on else 'off'}"
        self.extra[f"peak_gb_{name}"] = torch.cuda.max_memory_allocated() / 1e9
        if self.profiles:
            found = profiled(work, GPU, self.profiles / f"{name}.json.gz")
            (self.profiles / f"{name}.txt").write_text(table(found) + "\n")
            self.extra[f"profile_{name}"] = {"idle": found["idle_ms"], **found["kinds"]}
        return MICRO_SEQS * SEQ_LEN / seconds

    def train_off(self, kind: str) -> float:
        return self.train(kind, False)

    def train_on(self, kind: str) -> float:
        return self.train(kind, True)

    def step(self, kind: str, on: bool) -> float:
        model = build(kind, self.config)
        with tempfile.TemporaryDirectory() as folder:
            loop = make_loop(model, self.config, kind, Path(folder))
            loop.settings.recurrence_start_frac = 0.0 if on else 2.0
            seconds = median_s(loop.train_step, max(3, self.rounds // 4))
            loop.batches.close()
        return loop.settings.batch_seqs * SEQ_LEN / seconds

    def step_off(self, kind: str) -> float:
        return self.step(kind, False)

    def step_on(self, kind: str) -> float:
        return self.step(kind, True)

    def optimizer(self, kind: str) -> float:
        """Milliseconds of optimizer, clipping and average together."""
        model = build("fused", self.config)
        make = {"fused": optimizers.pgolf_parts, "plain": optimizers.plain_parts}[kind]
        (step, average), _ = optimizers.measure(
            model, make(model, self.config["optim"], WORLD), self.rounds, WORLD
        )
        self.extra[f"average_ms_{kind}"] = average
        return step + average

    def sliding(self, kind: str) -> float:
        """Windows a second."""
        model: nn.Module = build(kind, self.config)
        model.recurrence(True)  # type: ignore[operator]
        model = AllLogits(model) if kind == "plain" else model
        evaluator: SlidingEvaluator = instantiate(self.config["eval"], _convert_="all")
        num_windows = 2560
        stream = tokens(SEQ_LEN + STRIDE * (num_windows - 1) + 1)
        seconds = median_s(lambda: evaluator.evaluate(model, stream, WORLD), 2, warm_up=1)
        return num_windows / seconds

    def standard(self, kind: str) -> float:
        """Tokens a second of the diagnostic evaluation."""
        model: nn.Module = build(kind, self.config)
        model.recurrence(True)  # type: ignore[operator]
        evaluator = StandardEvaluator(
            seq_len=SEQ_LEN, batch_seqs=self.config["scale"]["eval_batch_seqs"]
        )
        stream = tokens(1_299_000)
        seconds = median_s(lambda: evaluator.evaluate(model, stream, WORLD), 3, warm_up=1)
        return stream.num_tokens / seconds

    def prequant_ttt(self, kind: str) -> float:
        """Seconds of an epoch over 1.3M tokens with its diagnostic, as every third epoch has."""
        model = build(kind, self.config)
        ttt: PreQuantTTT = instantiate(self.config["ttt"], _convert_="all")
        evaluator = StandardEvaluator(
            seq_len=SEQ_LEN, batch_seqs=self.config["scale"]["eval_batch_seqs"]
        )
        stream, epochs = tokens(1_299_000), 4
        clock, marks = Clock({}, WORLD.synchronize), []

        def evaluate(model: nn.Module) -> Any:
            score = evaluator.evaluate(model, stream, WORLD)
            marks.append(clock.seconds("ttt"))
            return score

        ttt.epochs, ttt.diagnostic_every = epochs, 1
        with clock.phase("ttt", "bench"):
            ttt.adapt(model, stream, WORLD, clock, EventLog(None), evaluate)
        return statistics.median(np.diff(marks).tolist())

    def first_step(self, kind: str) -> float:
        """Seconds from the start of a process to the end of its second step, caches empty."""
        with tempfile.TemporaryDirectory() as caches:
            cold, warm = (_first_step(kind, caches) for _ in range(2))
        self.extra[f"first_step_warm_s_{kind}"] = warm
        return cold


def _first_step(kind: str, caches: str) -> float:
    clock = Clock({})
    code = f"import gpu; gpu.take_first_steps({kind!r})"
    paths = [str(Path(__file__).parent), *sys.path]
    environment = {
        "TRITON_CACHE_DIR": f"{caches}/triton", "TORCHINDUCTOR_CACHE_DIR": f"{caches}/inductor",
    }  # fmt: skip
    script = f"import os, sys; os.environ.update({environment!r}); sys.path[:] = {paths!r}; {code}"
    with clock.phase("child", "bench"):
        subprocess.run([sys.executable, "-c", script], check=True)
    return clock.seconds("child")


def take_first_steps(kind: str) -> None:
    """One forward and backward without and one with recurrence, as a worker begins."""
    config = full_size()
    set_backend("auto", GPU)
    model = build(kind, config)
    for on in (False, True):
        forward_backward(model, on)()
    torch.cuda.synchronize()


def full_size() -> dict[str, Any]:
    return compose(["scale=full", "model=recurrent3", "optim=muoneq_r", "hardware=h100x1"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    rows, kinds = [*PUBLISHED, "standard"], ["fused", "plain"]
    parser.add_argument("--only", nargs="*", choices=rows, default=list(PUBLISHED))
    parser.add_argument("--kinds", nargs="*", choices=kinds, default=kinds)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--profile", type=Path, default=None, help="folder for profiles of a pass")
    record.add_options(parser)
    options = parser.parse_args()
    if options.profile:
        options.profile.mkdir(parents=True, exist_ok=True)
    torch.set_float32_matmul_precision("high")
    backend = set_backend("auto", GPU)
    table_rows = Rows(full_size(), options.rounds, options.profile)
    # Rows that are not measured now keep their figures of another time on the same kind of GPU.
    figures = record.saved("h100") if options.save else {}
    figures |= {"gpu": torch.cuda.get_device_name(GPU), "attention": backend}
    ratios = figures.setdefault("ratios", {"published": {}, "plain": {}})
    for name in options.only:
        found = {}
        for kind in options.kinds:
            found[kind] = getattr(table_rows, name)(kind)
            figures[f"{name}, {kind}"] = found[kind]
            print(f"{name}, {kind}: {found[kind]:,.4g}", file=sys.stderr, flush=True)
        against = {"plain": found.get("plain"), "published": PUBLISHED.get(name)}
        for other, value in against.items():
            if value is not None and "fused" in found:
                faster = value / found["fused"] if name in SECONDS else found["fused"] / value
                ratios[other][name] = round(faster, 3)
                figures[f"{name}, times {other}"] = faster
        figures["extra"] = figures.get("extra", {}) | table_rows.extra
        if options.save:
            record.save("h100", figures)
    record.finish("h100", figures, options)


if __name__ == "__main__":
    main()
