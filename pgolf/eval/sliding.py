"""`eval=sliding`: overlapping windows, so that (nearly) every token is scored with long context."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from pgolf.distributed import World
from pgolf.errors import UserError
from pgolf.eval.scoring import Windows
from pgolf.score import Score

if TYPE_CHECKING:
    from pgolf.data.stream import TokenStream


class SlidingEvaluator:
    """Windows at multiples of the stride; each scores only what the one before has not.

    The first window scores all its tokens, the others their last `stride`, the last one what
    remains: each token is scored once, with at least seq_len - stride tokens before it (but in the
    first window). As in PR #1738.

    Args:
        seq_len: tokens that the model sees at once.
        stride: tokens between the starts of two windows.
        batch_seqs: windows that go through the model together.

    Raises:
        UserError: a stride that would leave tokens out.
    """

    def __init__(self, *, seq_len: int, stride: int, batch_seqs: int) -> None:
        if not 0 < stride <= seq_len:
            raise UserError(
                f"eval.stride={stride}: expected 1 to eval.seq_len={seq_len}, otherwise some "
                "tokens would not be scored (scale.eval_stride=...)"
            )
        self.seq_len, self.stride, self.batch_seqs = seq_len, stride, batch_seqs

    def evaluate(self, model: nn.Module, stream: TokenStream, world: World) -> Score:
        """Score every token of the stream but the first exactly once, work dealt over the ranks."""
        return self.windows(stream.num_tokens - 1).score(model, stream, world)

    def windows(self, num_positions: int) -> Windows:
        """The windows of a stream with so many tokens to score."""
        # A window is needed while its scored part, its last `stride` positions, begins inside.
        context = self.seq_len - self.stride
        starts = np.arange(0, max(1, num_positions - context), self.stride)
        scored_from = np.where(starts > 0, starts + context, 0)
        return Windows(starts, scored_from, self.seq_len, self.batch_seqs)
