"""Values of ttt's options that would fail, or mean nothing, only when adaptation begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgolf.errors import UserError

FROM_0 = (
    "lr", "lora_lr", "min_lr_ratio", "epochs", "weight_decay", "lora_weight_decay", "lora_eps",
    "freeze_blocks", "diagnostic_every", "prefix_docs", "l2", "reserve_s",
)  # fmt: skip
FROM_0_BELOW_1 = ("momentum", "lora_beta2", "ema_decay")


def check_ttt(ttt: Mapping[str, Any], eval_seq_len: int | None) -> None:
    """Raises UserError for a number out of its range, and for chunks that do not fit.

    Args:
        ttt: the option's keys; those that an option lacks, or that are null, are not checked.
        eval_seq_len: tokens of a window of the evaluator, if it has any.
    """
    given = {key: value for key, value in ttt.items() if value is not None}
    for key in given.keys() & {*FROM_0}:
        if not 0.0 <= given[key] < float("inf"):
            raise UserError(f"ttt.{key}={given[key]}: expected a number, 0 or more")
    for key in given.keys() & {*FROM_0_BELOW_1}:
        if not 0.0 <= given[key] < 1.0:
            raise UserError(f"ttt.{key}={given[key]}: expected a number from 0 to below 1")
    if not given.get("grad_clip_norm", 1.0) > 0.0:
        raise UserError(f"ttt.grad_clip_norm={given['grad_clip_norm']}: expected a number above 0")
    chunk, seq_len = given.get("chunk_tokens"), given.get("seq_len", 1)
    if chunk is not None and chunk < seq_len:
        scale_key = "slot_chunk_tokens" if "fit_tokens" in given else "ttt_chunk_tokens"
        raise UserError(
            f"ttt.chunk_tokens={chunk} is shorter than one sequence of {seq_len} tokens "
            f"(scale.{scale_key}=...)"
        )
    chunk = given.get("lora_chunk_tokens", 0)
    if eval_seq_len is not None and chunk > eval_seq_len:
        raise UserError(
            f"ttt.lora_chunk_tokens={chunk} does not fit into a window of "
            f"eval.seq_len={eval_seq_len} (scale.lora_chunk_tokens=...)"
        )
