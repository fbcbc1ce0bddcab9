"""What test-time training hands back, besides the model that it changed in place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Adapted:
    """The outcome of `adapt` or `score`.

    Args:
        eligible: whether the method keeps a score eligible.
        reason: why, in words for the result.
        per_epoch: one dict an epoch: epoch, lr, train_loss, and bpb where it was measured.
        adaptive: whether the final score comes from a predictor that learned from scored text.
        notes: what a reader of the result has to know, one plain sentence each.
    """

    eligible: bool
    reason: str
    per_epoch: list[dict[str, Any]] = field(default_factory=list)
    adaptive: bool = False
    notes: list[str] = field(default_factory=list)


def one_chunk_note(chunk_tokens: int) -> str:
    """Why a method that adapts between chunks of a text did not."""
    return (
        f"The text is not longer than one chunk of {chunk_tokens:,} tokens "
        "(ttt.chunk_tokens), so there was nothing to adapt for."
    )
