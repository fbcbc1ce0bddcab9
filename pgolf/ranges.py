"""Ranges of numbers in the configuration: outside, a run fails or trains uphill minutes later."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pgolf.errors import UserError


@dataclass(frozen=True)
class Range:
    """What a number has to be, in words and as a test; nan passes none."""

    words: str
    holds: Callable[[float], bool]


ABOVE_0 = Range("a number above 0", lambda value: 0.0 < value < math.inf)
FROM_0 = Range("a number, 0 or more", lambda value: 0.0 <= value < math.inf)
FROM_0_BELOW_1 = Range("a number from 0 to below 1", lambda value: 0.0 <= value < 1.0)
SHARE = Range("a share from 0 to 1", lambda value: 0.0 <= value <= 1.0)
FROM_1 = Range("1 or more", lambda value: 1 <= value < math.inf)
FINITE = Range("a number", math.isfinite)

RANGES: dict[str, dict[Range, tuple[str, ...]]] = {
    "limits": {ABOVE_0: ("train_s", "evaluate_s"), FROM_1: ("artifact_bytes",)},
    "model": {
        ABOVE_0: ("mlp_mult", "rope_base", "train_seq_len", "logit_softcap", "embed_init_std"),
        FROM_1: ("model_dim", "num_heads", "num_kv_heads", "num_layers", "vocab_size"),
        FROM_0: ("xsa_last_n",),
        FINITE: ("qk_gain_init",),
    },
    "train": {
        ABOVE_0: ("max_seconds", "checkpoint_every_s"),
        FROM_1: ("seq_len", "train_batch_tokens", "micro_batch_seqs", "num_steps", "log_every"),
        FROM_0: ("compile_warmup_steps",),
        FROM_0_BELOW_1: ("ema_decay",),
        SHARE: ("warmdown_frac", "recurrence_start_frac"),
    },
    "optim": {
        FROM_0: (
            *("lr", "matrix_lr", "embed_lr", "scalar_lr"),
            *("weight_decay", "muon_wd", "embed_wd", "scalar_wd"),
            "muon_momentum_warmup_steps",
        ),
        ABOVE_0: ("eps", "grad_clip_norm"),
        FROM_0_BELOW_1: ("beta1", "beta2", "muon_momentum", "muon_momentum_warmup_start"),
        FROM_1: ("ns_steps",),
    },
    "ttt": {
        ABOVE_0: ("bound", "grad_clip_norm", "lora_eps"),
        FROM_1: (
            *("seq_len", "batch_seqs", "chunk_tokens", "phases", "fit_tokens", "iterations"),
            *("history", "rank", "lora_chunk_tokens", "batch_docs"),
        ),
        FROM_0: (
            *("lr", "lora_lr", "min_lr_ratio", "epochs", "weight_decay", "lora_weight_decay"),
            *("freeze_blocks", "diagnostic_every", "prefix_docs", "l2", "reserve_s"),
        ),
        FROM_0_BELOW_1: ("momentum", "lora_beta2", "ema_decay"),
    },
    "eval": {FROM_1: ("seq_len", "batch_seqs")},
    "quant": {
        ABOVE_0: ("clip_sigmas", "embed_clip_sigmas"),
        FROM_0: ("damping", "penalty", "rank", "rank_candidates", "weigh_batches"),
        FROM_1: (
            *("bits", "embed_bits", "block_size", "calibration_batches", "limit_bytes"),
            "probe_seqs",
        ),
    },
}


def check_ranges(group: str, values: Mapping[str, Any]) -> None:
    """Raises UserError for a number out of its range; other values and keys are not checked."""
    for expected, keys in RANGES[group].items():
        for key in keys:
            value = values.get(key)
            if isinstance(value, int | float) and not expected.holds(value):
                raise UserError(f"{group}.{key}={value}: expected {expected.words}")
