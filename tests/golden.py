"""Compare pgolf with stored outputs of the published V15 code: `python -m tests.golden FOLDER`.

Every size and setting comes from FOLDER/config.json (names as in the published script), so folders
of other sizes work as well. One line a case: PASS, FAIL or SKIP, the deviation and the tolerance.
Exit code 0 where nothing missed, 1 on a miss, 2 where there is nothing to compare.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgolf.clock import Clock
from pgolf.data.stream import TokenStream
from pgolf.distributed import World
from pgolf.eval.sliding import SlidingEvaluator
from pgolf.eval.standard import StandardEvaluator
from pgolf.events import EventLog
from pgolf.model.recurrent import RecurrentGPT
from pgolf.optim.muon_adamw import MuonAdamW
from pgolf.score import Score
from pgolf.train.ema import WeightAverage
from pgolf.ttt.ledger import Ledger
from pgolf.ttt.prequant import PreQuantTTT
from pgolf.ttt.score_first import ScoreFirstTTT

Config = dict[str, Any]
Arrays = dict[str, np.ndarray]
WORLD = World()
# Newton-Schulz runs in bf16, whose steps are 2^-8: output projections begin at zero, so after a few
# updates they consist of such numbers alone, and another order of summation shows.
WEIGHT_TOLERANCE = 2e-2


@dataclass(frozen=True)
class Row:
    """One comparison: a deviation and what is allowed."""

    name: str
    deviation: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.deviation <= self.tolerance  # False for NaN


def build_model(config: Config, arrays: Arrays) -> RecurrentGPT:
    """The model of the folder's sizes with the weights `w/...` of an archive."""
    head_dim = config["model_dim"] // config["num_heads"]
    model = RecurrentGPT(
        vocab_size=config["vocab_size"],
        num_layers=config["num_layers"],
        model_dim=config["model_dim"],
        num_heads=config["num_heads"],
        num_kv_heads=config["num_kv_heads"],
        mlp_mult=config["mlp_mult"],
        rope_base=config["rope_base"],
        rope_dims=config["rope_dims"] or head_dim,
        train_seq_len=config["train_seq_len"],
        num_loops=config["num_loops"],
        loop_start=config["loop_start"],
        loop_end=config["loop_end"],
        parallel_start=config["parallel_residual_start"],
        xsa_last_n=config["xsa_last_n"],
        qk_gain_init=config["qk_gain_init"],
        logit_softcap=config["logit_softcap"],
        ln_scale=config["ln_scale"],
        skip_gates=config["skip_gates_enabled"],
        embed_dtype="fp32",
    )
    model.load_state_dict(tensors(arrays, "w/"))
    return model


def tensors(arrays: Arrays, prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): torch.from_numpy(value)
        for name, value in arrays.items()
        if name.startswith(prefix)
    }


def weight_rows(name: str, expected: dict[str, Tensor], found: dict[str, Tensor]) -> Row:
    """Largest distance of a tensor from the expected one, as a part of that one's norm."""
    deviation = max(
        (float((found[key].float() - value).norm() / value.norm().clamp_min(1e-3)), key)
        for key, value in expected.items()
    )
    return Row(f"{name} (worst {deviation[1]})", deviation[0], WEIGHT_TOLERANCE)


def cut_stream(arrays: Arrays, seq_len: int) -> TokenStream:
    """The validation stream cut to whole sequences, as published."""
    usable = (len(arrays["val_tokens"]) - 1) // seq_len * seq_len
    return TokenStream(
        arrays["val_tokens"][: usable + 1].astype(np.uint16),
        arrays["val_bytes"][: usable + 1].astype(np.uint16),
    )


def relative(found: float, expected: float) -> float:
    return abs(found - expected) / abs(expected)


def score_rows(name: str, score: Score, expected: np.ndarray, tolerance: float) -> list[Row]:
    return [
        Row(f"{name} nats per token", relative(score.nats_per_token, expected[0]), tolerance),
        Row(f"{name} bits per byte", relative(score.bpb, expected[1]), tolerance),
    ]


def forward(config: Config, arrays: Arrays) -> list[Row]:
    model = build_model(config, arrays)
    ids_BT = torch.from_numpy(arrays["ids"])
    rows = []
    for on in (0, 1):
        model.recurrence(bool(on))
        with torch.no_grad():
            logits_BTV = model.logits(ids_BT[:, :-1])
            loss = float(model(ids_BT[:, :-1], ids_BT[:, 1:]))
        difference = (logits_BTV - torch.from_numpy(arrays[f"logits_loop{on}"])).abs().max()
        name = f"forward, recurrence {'on' if on else 'off'}:"
        rows += [
            Row(f"{name} logits", float(difference), 1e-4),
            Row(f"{name} loss", abs(loss - float(arrays[f"loss_loop{on}"])), 1e-4),
        ]
    return rows


def build_optimizer(config: Config, model: RecurrentGPT) -> MuonAdamW:
    return MuonAdamW(
        list(model.named_parameters()),
        WORLD,
        matrix_lr=config["matrix_lr"],
        embed_lr=config["tied_embed_lr"],
        scalar_lr=config["scalar_lr"],
        muon_momentum=config["muon_momentum"],
        muon_momentum_warmup_start=config["muon_momentum_warmup_start"],
        muon_momentum_warmup_steps=config["muon_momentum_warmup_steps"],
        ns_steps=config["muon_backend_steps"],
        ns_dtype="bf16",
        muon_wd=config["muon_wd"],
        embed_wd=config["embed_wd"],
        scalar_wd=config["adam_wd"],
        beta1=config["beta1"],
        beta2=config["beta2"],
        eps=config["adam_eps"],
        grad_clip_norm=config["grad_clip_norm"],
    )


def train5(config: Config, arrays: Arrays) -> list[Row]:
    model = build_model(config, arrays)
    optimizer = build_optimizer(config, model)
    average = WeightAverage(model, decay=config["ema_decay"], ramp=False)
    rows = []
    for step, micro_batches in enumerate(torch.from_numpy(arrays["batches"])):
        model.recurrence(step >= 2)
        loss = 0.0
        for batch in micro_batches:
            part = model(batch[:, :-1], batch[:, 1:]) / len(micro_batches)
            part.backward()
            loss += float(part.detach())
        optimizer.step(float(arrays["lr_scale"][step]), step)
        average.update(step)
        expected = float(arrays["losses"][step])
        rows.append(Row(f"train5: loss of step {step}", relative(loss, expected), 2e-3))
    rows.append(weight_rows("train5: last weights", tensors(arrays, "end/"), model.state_dict()))
    rows.append(weight_rows("train5: average", tensors(arrays, "ema/"), average.state_dict()))
    return rows


def evaluate(config: Config, arrays: Arrays) -> list[Row]:
    model = build_model(config, arrays)
    model.recurrence(True)
    seq_len = config["eval_seq_len"]
    stream = cut_stream(arrays, seq_len)
    standard = StandardEvaluator(seq_len=seq_len, batch_seqs=8)
    sliding = SlidingEvaluator(seq_len=seq_len, stride=config["eval_stride"], batch_seqs=32)
    rows = [
        *score_rows(
            "evaluate: standard", standard.evaluate(model, stream, WORLD), arrays["standard"], 1e-6
        ),
        *score_rows(
            "evaluate: sliding", sliding.evaluate(model, stream, WORLD), arrays["sliding"], 1e-6
        ),
    ]
    if "score_first" in arrays:  # it changes the model: last
        adaptive = score_first(config, model, stream, sliding)
        rows += score_rows("evaluate: score-first TTT", adaptive, arrays["score_first"], 1e-5)
    return rows


def score_first(
    config: Config, model: RecurrentGPT, stream: TokenStream, evaluator: SlidingEvaluator
) -> Score:
    settings = config["score_first"]
    ttt = ScoreFirstTTT(
        lr=settings["lr"],
        momentum=settings["momentum"],
        epochs=settings["epochs"],
        chunk_tokens=settings["chunk_tokens"],
        batch_seqs=settings["batch_seqs"],
        grad_clip_norm=settings["grad_clip"],
        seq_len=config["eval_seq_len"],
        reserve_s=0.0,
    )
    ledger = Ledger(model, stream, evaluator, WORLD, part_tokens=ttt.chunk_tokens)
    ttt.score(model, ledger, WORLD, Clock({}))
    return ledger.finish()


def prequant_ttt(config: Config, arrays: Arrays) -> list[Row]:
    model = build_model(config, arrays)
    stream = cut_stream(arrays, config["eval_seq_len"])
    settings = config["prequant_ttt"]
    ttt = PreQuantTTT(
        epochs=settings["epochs"],
        lr=config["prequant_ttt_lr"],
        min_lr_ratio=settings["min_lr_ratio"],
        freeze_blocks=config["prequant_ttt_freeze_blocks"],
        weight_decay=config["prequant_ttt_wd"],
        chunk_tokens=settings["chunk_tokens"],
        batch_seqs=settings["batch_seqs"],
        grad_clip_norm=config["prequant_ttt_grad_clip"],
        diagnostic_every=1,
        seq_len=config["train_seq_len"],
    )
    diagnostic = StandardEvaluator(seq_len=config["eval_seq_len"], batch_seqs=8)
    adapted = ttt.adapt(
        model, stream, WORLD, Clock({}), EventLog(None),
        lambda m: diagnostic.evaluate(m, stream, WORLD),
    )  # fmt: skip
    rows = [
        Row(f"prequant_ttt: BPB after epoch {found['epoch']}", relative(found["bpb"], bpb), 2e-3)
        for found, (_, bpb) in zip(adapted.per_epoch, arrays["per_epoch"], strict=True)
    ]
    rows.append(weight_rows("prequant_ttt: weights", tensors(arrays, "end/"), model.state_dict()))
    return rows


COMPARISONS: dict[str, Callable[[Config, Arrays], list[Row]]] = {
    "forward.npz": forward,
    "train5.npz": train5,
    "evaluate.npz": evaluate,
    "prequant_ttt.npz": prequant_ttt,
}
# Those beside their package's tests: `run(folder) -> [(name, deviation, tolerance)]`.
ELSEWHERE = {
    "gptq.npz": "tests.quant.golden_gptq",
    "caseops.jsonl": "tests.tokenizer.golden_caseops",
}
FILES = (*COMPARISONS, *ELSEWHERE)


def unsupported(config: Config) -> str | None:
    """Why the folder's model is not recurrent3, if so."""
    if config.get("embedding_dim", config["model_dim"]) != config["model_dim"]:
        return "embedding_dim differs from model_dim"
    if not config.get("tie_embeddings", True):
        return "untied embeddings"
    return None


def compare(file: str, folder: Path) -> list[Row]:
    """All comparisons of one file of the folder.

    Raises:
        LookupError: it cannot be compared, with the reason.
    """
    if not (folder / file).is_file():
        raise LookupError(f"no {file} in {folder}")
    if file in ELSEWHERE:
        module = importlib.import_module(ELSEWHERE[file])
        return [Row(*row) for row in module.run(folder)]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    reason = unsupported(config)
    if reason:
        raise LookupError(f"recurrent3 has no such option ({reason})")
    with np.load(folder / file) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return COMPARISONS[file](config, arrays)


def report(folder: Path) -> Iterator[tuple[str, str]]:
    """(status, line) of every comparison, as they are done."""
    for file in FILES:
        try:
            rows = compare(file, folder)
        except LookupError as reason:
            if isinstance(reason, KeyError):
                yield "FAIL", f"{file}: config.json or the archive has no {reason}"
            else:
                yield "SKIP", f"{file}: {reason}"
            continue
        except Exception as error:
            yield "FAIL", f"{file}: {type(error).__name__}: {error}"
            continue
        for row in rows:
            line = f"{row.name:<58} deviation {row.deviation:.2e}  tolerance {row.tolerance:.0e}"
            yield ("PASS" if row.ok else "FAIL"), line


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("folder", type=Path, help="holds config.json and the stored outputs")
    folder: Path = parser.parse_args(arguments).folder
    if not (folder / "config.json").is_file():
        print(f"{folder}/config.json: no such file; name a folder that has it", file=sys.stderr)
        return 2
    statuses = []
    for status, line in report(folder):
        print(f"{status}  {line}", flush=True)
        statuses.append(status)
    if set(statuses) == {"SKIP"}:
        print(f"nothing to compare in {folder}: expected {', '.join(FILES)}", file=sys.stderr)
        return 2
    return 1 if "FAIL" in statuses else 0


if __name__ == "__main__":
    sys.exit(main())
