"""Lengths of ttt's options that do not fit each other, or the windows of the evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgolf.errors import UserError


def check_ttt(ttt: Mapping[str, Any], eval_seq_len: int | None) -> None:
    """Raises UserError for chunks that do not fit.

    Args:
        ttt: the option's keys; those that an option lacks, or that are null, are not checked.
        eval_seq_len: tokens of a window of the evaluator, if it has any.
    """
    given = {key: value for key, value in ttt.items() if value is not None}
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
