"""`eval=sliding`: overlapping windows, so that (nearly) every token is scored with long context."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from pgolf.distributed import World
from pgolf.errors import UserError
from pgolf.eval.scoring import make_batches, rank_share, score_batches
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
        # A window is needed while its scored part, its last `stride` positions, begins inside.
        end = max(1, stream.num_tokens - 1 - (self.seq_len - self.stride))
        starts = rank_share(np.arange(0, end, self.stride), world)
        batches = make_batches(starts[starts == 0], self.seq_len, self.batch_seqs)
        batches += make_batches(starts[starts > 0], self.stride, self.batch_seqs)
        return score_batches(model, stream, batches, self.seq_len, world)
