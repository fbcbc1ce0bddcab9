"""The evaluate job: reload the artifact from its bytes and score it on the validation shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate

import pgolf
from pgolf.artifact import build_model, read_artifact
from pgolf.context import Context
from pgolf.data.stream import TokenStream
from pgolf.errors import UserError
from pgolf.eval.standard import StandardEvaluator
from pgolf.files import write_json
from pgolf.kernel.attention import set_backend
from pgolf.kernel.choice import compile_blocks, compiles, set_kernels


def evaluate(context: Context) -> None:
    """Score the artifact twice: straightforwardly ("quantized"), then as configured ("final")."""
    job, world, clock = context.job, context.world, context.clock
    devices = job["devices"]
    backend = set_backend(devices["attention"], world.device)
    kernels = set_kernels(devices["kernels"], world.device, world.precision)
    code = Path(pgolf.__file__).parent
    context.say(f"evaluate: code from {code}, attention {backend}, kernels {kernels}")
    with clock.phase("load", "evaluate"):
        context.stage = "load"
        artifact = read_artifact(Path(job["artifact"]))
        expected = job.get("tokenizer_fingerprint")
        check_tokenizer(artifact.tokenizer_fingerprint, expected)
        model = build_model(artifact).to(world.device)
        if compiles(devices["compile"], world.device):
            compile_blocks(model)
        stream = TokenStream.open_validation(Path(job["data_folder"]))
    scores: dict[str, Any] = {}
    for name, budget in (("quantized", "diagnostic"), ("final", "evaluate")):
        context.stage = name
        evaluator: Any = StandardEvaluator(**job["standard"])
        if name == "final":
            evaluator = instantiate(job["eval"], _convert_="all")
        with clock.phase(name, budget), torch.inference_mode():
            score = evaluator.evaluate(model, stream, world)
        scores[name] = {**score.as_dict(), "seconds": clock.seconds(name)}
        context.events.emit("score", "evaluate", name=name, **score.as_dict())
    scores["load_s"] = clock.seconds("load")
    if world.is_main:
        write_json(Path(job["output"]), scores)


def check_tokenizer(of_artifact: str, of_data: str | None) -> None:
    """Raises UserError when artifact and validation text were made with different tokenizers."""
    if of_data is not None and of_artifact != of_data:
        raise UserError(
            f"the artifact was made with tokenizer {of_artifact[:12]}, the validation text with "
            f"{of_data[:12]}: prepare the text with the artifact's tokenizer"
        )
