"""What the worker jobs of a run are told, and the cache keys of their stages.

A key covers what decides a stage's output: its own settings, the keys of its inputs, the devices
and the source of the code that runs. So a sweep over `ttt.epochs` trains once a seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pgolf.hardware import Devices
from pgolf.shipped import adapts_while_scoring, code_fingerprint
from pgolf.stage import outside_code, stage_key

# Stages of the produce job in their order, with the budget that each is charged to.
PRODUCE_STAGES = {
    "train": "train",
    "score_trained": "diagnostic",
    "score_ema": "diagnostic",
    "ttt": "train",
    "score_adapted": "diagnostic",
    "pack": "train",
}

# Code whose change makes old results of a stage invalid; every model stage runs the first.
MODEL_CODE = ("model", "kernel", "distributed", "data/stream", "produce")
EVAL_CODE = (*MODEL_CODE, "eval", "score")

Config = dict[str, Any]

# Settings of the loop that change no number.
SILENT = {"checkpoint_every_s", "log_every"}

# What the produce job does where test-time training runs while evaluating.
NO_TTT = {"_target_": "pgolf.ttt.none.NoTTT"}


def diagnostic_settings(config: Config) -> dict[str, Any]:
    """Settings of the straightforward evaluation that follows every stage."""
    scale = config["scale"]
    return {"seq_len": scale["eval_seq_len"], "batch_seqs": scale["eval_batch_seqs"]}


def ttt_before_quantization(config: Config) -> Config:
    """The ttt option as the produce job sees it: settings for later change no stage of it."""
    return NO_TTT if adapts_while_scoring(config) else config["ttt"]


def produce_keys(config: Config, devices: Devices, data_key: str) -> dict[str, str]:
    """The cache key of each stage of the produce job."""
    machine, diagnostic = devices.as_dict(), diagnostic_settings(config)
    settings = {key: value for key, value in config["train"].items() if key not in SILENT}
    train = stage_key(
        "train", (*MODEL_CODE, "optim", "train", "data/loader", "data/prefetch"),
        model=config["model"], train=settings, optim=config["optim"], seed=config["seed"],
        data=data_key, devices=machine,
        outside=outside_code(config["train"], config["optim"]),
    )  # fmt: skip
    ttt = stage_key(
        "ttt",
        (*MODEL_CODE, "ttt"),
        train=train,
        ttt=ttt_before_quantization(config),
        diagnostic=diagnostic,
        outside=outside_code(ttt_before_quantization(config)),
    )
    pack = stage_key(
        "pack",
        (*MODEL_CODE, "quant", "codec", "artifact", "container", "layout", "census", "shipped"),
        ttt=ttt, quant=config["quant"], codec=config["codec"], eval=config["eval"],
        micro_batch_seqs=config["train"]["micro_batch_seqs"], shipped=code_fingerprint(config),
        outside=outside_code(config["quant"]), limit_bytes=config["limits"]["artifact_bytes"],
    )  # fmt: skip
    scores = {
        name: stage_key(name, EVAL_CODE, weights=weights, diagnostic=diagnostic)
        for name, weights in (
            ("score_trained", train),
            ("score_ema", train),
            ("score_adapted", ttt),
        )
    }
    return {"train": train, "ttt": ttt, "pack": pack, **scores}


def produce_job(
    config: Config, devices: Devices, *, run_folder: Path, cache: Path, data: Path, data_key: str,
    tokenizer_fingerprint: str,
) -> dict[str, Any]:  # fmt: skip
    """Train, adapt, quantize and pack: the job reads training and validation shards."""
    return {
        "kind": "produce",
        "run_folder": str(run_folder),
        "cache": str(cache),
        "data_folder": str(data),
        "tokenizer_fingerprint": tokenizer_fingerprint,
        "seed": config["seed"],
        "config": config,
        "ttt": ttt_before_quantization(config),
        "devices": devices.as_dict(),
        "limits": {"train": config["limits"]["train_s"]},
        "keys": produce_keys(config, devices, data_key),
    }


def evaluate_job(
    config: Config, devices: Devices, *, run_folder: Path, cache: Path, artifact: Path,
    validation: Path, tokenizer_fingerprint: str | None, bos_id: int, output: Path,
    sandbox: dict[str, Any] | None = None, documents: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Score the artifact: the job is given its bytes and the validation shards, nothing else.

    Args:
        sandbox: of `pgolf.sandbox.evaluation.hidden_of`; None holds the workers by nothing.
        documents: a file beside output, for what the final score is by document.
    """
    return {
        "kind": "evaluate",
        "run_folder": str(run_folder),
        "cache": str(cache),
        "data_folder": str(validation),
        "artifact": str(artifact),
        "tokenizer_fingerprint": tokenizer_fingerprint,
        "bos_id": bos_id,
        "seed": config["seed"],
        "standard": diagnostic_settings(config),
        "eval": config["eval"],
        "ttt": config["ttt"] if adapts_while_scoring(config) else None,
        "devices": devices.as_dict(),
        "limits": {"evaluate": config["limits"]["evaluate_s"]},
        "output": str(output),
        "documents": None if documents is None else str(documents),
        "sandbox": sandbox,
    }
