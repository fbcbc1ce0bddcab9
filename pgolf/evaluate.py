"""The evaluate job: reload the artifact from its bytes and score it on the validation shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from torch import nn

import pgolf
from pgolf.artifact import build_model, read_artifact
from pgolf.context import Context
from pgolf.data.stream import TokenStream
from pgolf.errors import UserError
from pgolf.eval.by_document import TalliedStream
from pgolf.eval.standard import StandardEvaluator
from pgolf.files import write_json
from pgolf.kernel.attention import set_backend
from pgolf.kernel.choice import compile_blocks, compiles, set_kernels
from pgolf.protocols import AdaptiveTTT, DocumentTTT, Evaluator
from pgolf.score import Score
from pgolf.state import state_of


def evaluate(context: Context) -> None:
    """Score the artifact twice: straightforwardly ("quantized"), then as configured ("final").

    Where test-time training adapts while scoring, "final" is its score, and "control" that of the
    same windows without it.
    """
    job, world, clock = context.job, context.world, context.clock
    devices = job["devices"]
    backend = set_backend(devices["attention"], world.device)
    kernels = set_kernels(devices["kernels"], world.device, world.precision)
    code = Path(pgolf.__file__).parent
    context.say(f"evaluate: code from {code}, attention {backend}, kernels {kernels}")
    with phase(context, "load", "evaluate"):
        artifact = read_artifact(Path(job["artifact"]))
        expected = job.get("tokenizer_fingerprint")
        check_tokenizer(artifact.tokenizer_fingerprint, expected)
        model = build_model(artifact).to(world.device)
        if compiles(devices["compile"], world.device):
            compile_blocks(model)
        stream = TokenStream.open_validation(Path(job["data_folder"]))
    text = stream  # what the final score alone reads
    if job.get("documents"):
        text = TalliedStream(stream, job["bos_id"], world)
    standard = StandardEvaluator(**job["standard"])
    evaluator: Evaluator = instantiate(job["eval"], _convert_="all")
    scores: dict[str, Any] = {"load_s": clock.seconds("load")}
    with phase(context, "quantized", "diagnostic"):
        score = standard.evaluate(model, stream, world)
    scores |= measured(context, "quantized", score)
    if job["ttt"] is not None:
        scores |= adapt_and_score(context, model, stream, evaluator, text)
    else:
        before = state_of(model)
        with phase(context, "final", "evaluate"):
            score = evaluator.evaluate(model, text, world)
        # Nothing learns here: the auditor compares both, and with the artifact's.
        states = {"before": float(before), "after": float(state_of(model))}
        context.events.emit("state", "evaluate", name="final", **states)
        scores |= measured(context, "final", score)
    if isinstance(text, TalliedStream):
        text.write(Path(job["documents"]))
    if world.is_main:
        write_json(Path(job["output"]), scores)


def adapt_and_score(
    context: Context,
    model: nn.Module,
    stream: TokenStream,
    evaluator: Evaluator,
    text: TokenStream | None = None,
) -> dict[str, Any]:
    """Test-time training while scoring: "final", what it says under "ttt", and the "control".

    The control, the same windows without adapting, comes first, while the weights are as shipped.

    Args:
        text: the stream again, as the final score reads it, where that is another object.
    """
    world = context.world
    scores: dict[str, Any] = {}
    ttt: Any = instantiate(context.job["ttt"], _convert_="all")
    unadapted: list[Score] | None = None
    if ttt.compare:
        control = ledger_of(ttt, context, model, stream, evaluator)()
        with phase(context, "control", "diagnostic"), control.progress("control"):
            control.score_unadapted()
        unadapted = control.curve
        scores |= measured(context, "control", control.finish())
    open_ledger = ledger_of(ttt, context, model, text or stream, evaluator)
    ledger = open_ledger(events=context.events, unadapted=unadapted)
    with phase(context, "final", "evaluate"), ledger.progress("adapt and score"):
        context.events.emit("stage", "adapt", status="start")
        adapted = ttt.score(model, ledger, world, context.clock)
        score = ledger.finish()
    return {**scores, **measured(context, "final", score), "ttt": asdict(adapted)}


def ledger_of(
    ttt: AdaptiveTTT | DocumentTTT,
    context: Context,
    model: nn.Module,
    stream: TokenStream,
    evaluator: Evaluator,
) -> Callable[..., Any]:
    """Opens the ledger that a method asks for: of the stream as it comes, or of its documents."""
    arguments = model, stream, evaluator, context.world
    if isinstance(ttt, DocumentTTT):
        from pgolf.ttt.document_ledger import DocumentLedger

        return partial(
            DocumentLedger, *arguments, order=ttt.documents, bos_id=context.job["bos_id"]
        )
    from pgolf.ttt.ledger import Ledger

    return partial(Ledger, *arguments, part_tokens=ttt.chunk_tokens)


@contextmanager
def phase(context: Context, name: str, budget: str) -> Iterator[None]:
    """A stage of the evaluation; its seconds are charged to a budget."""
    context.stage = name
    context.events.emit("stage", name, status="start")
    with context.clock.phase(name, budget):
        yield


def measured(context: Context, name: str, score: Score) -> dict[str, Any]:
    """The entry of a score, which is emitted, too."""
    context.events.emit("score", "evaluate", name=name, **score.as_dict())
    return {name: {**score.as_dict(), "seconds": context.clock.seconds(name)}}


def check_tokenizer(of_artifact: str, of_data: str | None) -> None:
    """Raises UserError when artifact and validation text were made with different tokenizers."""
    if of_data is not None and of_artifact != of_data:
        raise UserError(
            f"the artifact was made with tokenizer {of_artifact[:12]}, the validation text with "
            f"{of_data[:12]}: prepare the text with the artifact's tokenizer"
        )
