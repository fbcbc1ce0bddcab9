"""The produce job: train, score, test-time training, score, quantize, pack; each stage cached."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from hydra.utils import instantiate
from safetensors.torch import load_file, save
from torch import Tensor, nn

from pgolf.artifact import Artifact, write_artifact
from pgolf.census import tensor_rows
from pgolf.checkpoint import Checkpoints
from pgolf.context import Context
from pgolf.data.loader import GlobalLoader, PublishedLoader, check_text_to_adapt
from pgolf.data.prefetch import Prefetch
from pgolf.data.stream import TokenStream
from pgolf.errors import UserError
from pgolf.eval.standard import StandardEvaluator
from pgolf.files import atomic_writer
from pgolf.kernel.attention import set_backend
from pgolf.kernel.choice import compile_blocks, compiles, set_kernels
from pgolf.protocols import Model, Quantizer
from pgolf.quant.codes import Codes
from pgolf.score import Score
from pgolf.shipped import write_code
from pgolf.stage import SCRATCH, Stage

Weights = dict[str, Tensor]


def produce(context: Context) -> None:
    """Run every stage of the job that is not finished yet, in order."""
    parts = Parts(context)
    parts.check()
    run_stage(context, "train", "train", parts.train)
    run_stage(
        context, "score_trained", "diagnostic", lambda f: parts.score(f, "trained", "train", "raw")
    )
    run_stage(context, "score_ema", "diagnostic", lambda f: parts.score(f, "ema", "train", "ema"))
    run_stage(context, "ttt", "train", parts.adapt)
    run_stage(
        context,
        "score_adapted",
        "diagnostic",
        lambda f: parts.score(f, "adapted", "ttt", "adapted"),
    )
    run_stage(context, "pack", "train", parts.pack)


def run_stage(
    context: Context, name: str, budget: str, work: Callable[[Path], dict[str, Any]]
) -> dict[str, Any]:
    """Reuse a finished stage or do its work; returns its information on the main rank.

    The main rank holds the stage's lock, tells the others whether there is work, and publishes.
    """
    world, say = context.world, context.say
    stage = Stage(context.cache, name, context.job["keys"][name], say)
    context.stage = name
    info: dict[str, Any] | None = None
    if world.is_main:
        lock = stage.lock()
        lock.__enter__()
        info = stage.find()
    found = torch.tensor([int(info is not None)], device=world.device)
    if int(world.broadcast_(found)):
        status = "reused"
    else:
        status = "done"
        context.events.emit("stage", name, status="start")
        if name == "train":  # the loop charges its own phases: a resumed one used seconds before
            info = work(stage.work)
        else:
            with context.clock.phase(name, budget):
                info = work(stage.work)
        info["seconds"] = info.get("seconds", context.clock.seconds(name))
        world.barrier()
        if world.is_main:
            stage.publish(info)
    if world.is_main:
        assert info is not None
        stage.discard_work()
        seconds = round(info["seconds"], 3)
        context.events.emit(
            "stage", name, status=status, seconds=seconds, key=stage.key, waited_s=stage.waited_s
        )
        if status == "reused":
            say(f"{name}: reused from the cache, saves {info['seconds']:.1f} s")
        if "score" in info:
            context.events.emit("score", name, name=info["name"], **info["score"])
        if "tensors" in info:
            context.events.emit("tensors", name, rows=info["tensors"])
        lock.__exit__(None, None, None)
    return info or {}


class Parts:
    """The objects that a run's configuration names, built when a stage first needs them."""

    def __init__(self, context: Context) -> None:
        self.context, self.job, self.world = context, context.job, context.world
        self.config: dict[str, Any] = context.job["config"]
        self.data = Path(context.job["data_folder"])
        self.tried: tuple[Artifact, int, dict[str, Any]] | None = None  # by `size_of`, the last

    def check(self) -> None:
        """Build what later stages need: it says what is wrong with its settings before training."""
        for group in ("ttt", "quant", "codec", "eval"):
            instantiate(self.config[group], _convert_="all")

    @cached_property
    def model(self) -> nn.Module:
        world, devices = self.world, self.job["devices"]
        backend = set_backend(devices["attention"], world.device)
        kernels = set_kernels(devices["kernels"], world.device, world.precision)
        self.context.say(
            f"{world.world_size} worker(s) on {world.device.type}, {world.precision}, "
            f"attention {backend}, kernels {kernels}"
        )
        self.context.events.emit(
            "devices", "start", gpus=world.device_names(), attention=backend, kernels=kernels
        )
        model: nn.Module = instantiate(self.config["model"], _convert_="all").to(world.device)
        if compiles(devices["compile"], world.device):
            compile_blocks(model)
        self.check_documents(cast(Model, model).document_bos)
        count = sum(p.numel() for p in model.parameters())
        self.context.events.emit("model", "start", parameters=count)
        self.context.say(f"model: {count:,} parameters")
        return model

    def check_documents(self, document_bos: int | None) -> None:
        """Raises UserError where attention would look for documents that begin otherwise."""
        first = int(self.validation.ids[0])
        if document_bos is not None and document_bos != first:
            raise UserError(
                f"model.bos_id={document_bos}, but the documents of this data begin with token "
                f"{first}: use model.bos_id={first}"
            )

    @cached_property
    def validation(self) -> TokenStream:
        return TokenStream.open_validation(self.data)

    @cached_property
    def diagnostic(self) -> StandardEvaluator:
        scale = self.config["scale"]
        return StandardEvaluator(seq_len=scale["eval_seq_len"], batch_seqs=scale["eval_batch_seqs"])

    def stage_folder(self, name: str) -> Path:
        return Path(Stage(self.context.cache, name, self.job["keys"][name]).folder)

    # -- stages --------------------------------------------------------------------------------

    def train(self, folder: Path) -> dict[str, Any]:
        world, clock = self.world, self.context.clock
        model, scratch = self.model, folder / SCRATCH
        scratch.mkdir(exist_ok=True)
        trainer = instantiate(self.config["train"], _convert_="all")
        optimizer = instantiate(self.config["optim"], _partial_=True, _convert_="all")(
            list(model.named_parameters()), world
        )
        average, state = trainer.fit(
            model, optimizer, self.loader(trainer.loader_kind), world, clock,
            self.context.events, Checkpoints(scratch, self.context.say),
        )  # fmt: skip
        raw = weights_of(model)
        average.copy_to(model)
        if world.is_main:
            save_weights(raw, folder / "raw.safetensors")
            save_weights(weights_of(model), folder / "ema.safetensors")
        seconds, warm_up = clock.seconds("train"), clock.seconds("warm-up")
        return {
            "seconds": seconds,
            "warm_up_s": warm_up,
            "lost_s": state.lost_s,
            "steps": state.step,
            "tokens": state.tokens_seen,
            "loss": state.last_loss,
            "tokens_per_s": state.tokens_seen / max(seconds, 1e-9),
            "parameters": sum(p.numel() for p in model.parameters()),
        }

    def loader(self, kind: str) -> GlobalLoader | PublishedLoader:
        shards = TokenStream.open_training(self.data)
        make = GlobalLoader if kind == "global" else PublishedLoader
        return make(shards, seq_len=self.config["train"]["seq_len"], seed=self.job["seed"])

    def load(self, stage: str, file: str) -> nn.Module:
        """The model with the weights of a finished stage, recurrence on."""
        self.world.barrier()
        path = self.stage_folder(stage) / f"{file}.safetensors"
        self.model.load_state_dict(load_file(path, device=str(self.world.device)))
        cast(Model, self.model).recurrence(True)
        return self.model

    def score(self, folder: Path, name: str, stage: str, file: str) -> dict[str, Any]:
        score = self.evaluate(self.load(stage, file))
        return {"name": name, "score": score.as_dict()}

    def evaluate(self, model: nn.Module) -> Score:
        return self.diagnostic.evaluate(model, self.validation, self.world)

    def adapt(self, folder: Path) -> dict[str, Any]:
        context = self.context
        model = self.load("train", "ema")
        ttt = instantiate(self.job["ttt"], _convert_="all")
        stream = self.adaptation_text(ttt.source)
        adapted = ttt.adapt(model, stream, self.world, context.clock, context.events, self.evaluate)
        if self.world.is_main:
            save_weights(weights_of(model), folder / "adapted.safetensors")
        return {
            "eligible": adapted.eligible,
            "reason": adapted.reason,
            "per_epoch": adapted.per_epoch,
            "notes": adapted.notes,
        }

    def adaptation_text(self, source: str) -> TokenStream:
        """What test-time training learns from; of validation, only its length for "train"."""
        if source == "validation":
            return self.validation
        return last_tokens(TokenStream.open_training(self.data), self.validation.num_tokens)

    def pack(self, folder: Path) -> dict[str, Any]:
        """Calibrate on training text, quantize, encode; writes the folder that would be shipped."""
        model, world = self.load("ttt", "adapted"), self.world
        quantizer: Quantizer = instantiate(self.config["quant"], _convert_="all")
        trial = folder / SCRATCH / "trial"
        try:
            codes = quantizer.quantize(
                model, self.calibration(quantizer), world, partial(self.size_of, trial)
            )
            info: dict[str, Any] = {"calibration": "training text"}
            if world.is_main:
                artifact, code_bytes = self.shipped(codes, trial, folder / "artifact")
                info["model_bytes"], info["code_bytes"] = artifact.file_bytes, code_bytes
                info["tensors"] = tensor_rows(
                    artifact, codes.losses, self.config["limits"]["artifact_bytes"]
                )
        finally:
            if world.is_main:
                shutil.rmtree(trial, ignore_errors=True)
        world.barrier()
        return info

    def ship(self, codes: Codes, folder: Path) -> tuple[Artifact, int]:
        """Write the artifact's folder anew; returns its model file and the bytes of its code."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        artifact = write_artifact(
            folder,
            self.config["model"],
            codes,
            instantiate(self.config["codec"], _convert_="all"),
            self.job["tokenizer_fingerprint"],
        )
        return artifact, write_code(folder, self.config)

    def size_of(self, folder: Path, codes: Codes) -> int:
        """Bytes of the artifact's folder if these codes were shipped; on the main rank alone."""
        assert self.world.is_main, "another rank would write the same files"
        self.tried = *self.ship(codes, folder), codes.tensors
        return self.tried[0].file_bytes + self.tried[1]

    def shipped(self, codes: Codes, trial: Path, folder: Path) -> tuple[Artifact, int]:
        """The folder of these codes: that of the last trial if they were its codes, or a new one.

        Encoding the full model anew would take seconds of the training budget.
        """
        if self.tried is None or self.tried[2] is not codes.tensors:
            self.context.say("pack: encoding the artifact")
            return self.ship(codes, folder)
        artifact, code_bytes, _ = self.tried
        shutil.rmtree(folder, ignore_errors=True)
        trial.rename(folder)
        return replace(artifact, file=folder / artifact.file.name), code_bytes

    def calibration(self, quantizer: Quantizer) -> Iterator[Tensor]:
        """Batches of training text on the device, ids_BT int64; each rank takes its share.

        They are the same for any number of ranks, but where these are more than a batch's
        sequences: each rank then takes one, since one without would know of no matrix.
        """
        batches, world = quantizer.calibration_batches, self.world
        if not batches:
            return
        size = max(world.world_size, self.config["train"]["micro_batch_seqs"])
        first, last = (size * rank // world.world_size for rank in (world.rank, world.rank + 1))
        # All windows, also those of other ranks: they are small, and shares differ by one.
        prefetch = Prefetch(self.loader("global"), size, 0, 1, world.device)
        try:
            for _ in range(batches):
                yield prefetch.next_batch()[0][first:last, :-1]
        finally:
            prefetch.close()


def last_tokens(shards: list[TokenStream], count: int) -> TokenStream:
    """The last tokens of the training split, in its order.

    The loader shuffles the windows of all shards, so there is no run of tokens that training has
    surely not met: it may have met a part of these.

    Raises:
        UserError: there are not that many.
    """
    total = sum(shard.num_tokens for shard in shards)
    check_text_to_adapt(total, count)
    parts: list[np.ndarray] = []
    for shard in reversed(shards):
        parts.insert(0, shard.ids[max(0, shard.num_tokens - count) :])
        count -= len(parts[0])
    return TokenStream(np.concatenate(parts))


def weights_of(model: nn.Module) -> Weights:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def save_weights(weights: Weights, path: Path) -> None:
    """Write a safetensors file atomically, readable as other files are."""
    with atomic_writer(path) as file:
        file.write(save({name: value.contiguous() for name, value in weights.items()}))
