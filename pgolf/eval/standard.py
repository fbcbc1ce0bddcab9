"""`eval=standard`: non-overlapping sequences, the cheapest score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from pgolf.distributed import World
from pgolf.eval.scoring import Windows
from pgolf.score import Score

if TYPE_CHECKING:
    from pgolf.data.stream import TokenStream


class StandardEvaluator:
    """Cuts the stream into sequences and scores every position of each.

    Args:
        seq_len: tokens that the model sees at once; the last sequence may be shorter.
        batch_seqs: sequences that go through the model together.
    """

    def __init__(self, *, seq_len: int, batch_seqs: int) -> None:
        self.seq_len, self.batch_seqs = seq_len, batch_seqs

    def evaluate(self, model: nn.Module, stream: TokenStream, world: World) -> Score:
        """Score every token of the stream but the first exactly once, work dealt over the ranks."""
        return self.windows(stream.num_tokens - 1).score(model, stream, world)

    def windows(self, num_positions: int) -> Windows:
        """The windows of a stream with so many tokens to score."""
        starts = np.arange(0, num_positions, self.seq_len)
        return Windows(starts, starts, self.seq_len, self.batch_seqs)
