"""`ttt=score_first_phased`: scores a quarter of the text, then trains on all that is scored.

PR #1727; phases since PR #1626. It learns from scored text only, so the score is eligible on the
adaptive track.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from pgolf.clock import Clock
from pgolf.distributed import World
from pgolf.protocols import Model
from pgolf.ttt.adapted import Adapted
from pgolf.ttt.pace import Pace
from pgolf.ttt.score_first import REASON, ChunkTrainer

if TYPE_CHECKING:
    from pgolf.ttt.ledger import Ledger


class ScoreFirstPhasedTTT:
    """Fixed weights within a phase; between two, SGD over the chunks of all phases so far.

    A step is one batch of all ranks together, so that their number changes the score by rounding
    alone. What a chunk has beyond whole sequences is scored and not trained on. Where the budget
    runs short, a phase's training ends between two chunks and the rest is scored as it is.

    Args:
        lr: of the first chunk of a training; a cosine would bring it to 0 one chunk after the last.
        momentum: SGD's, from 0 in each phase.
        epochs: passes over a chunk in each training; 0 adapts nothing.
        phases: equal runs of chunks that the text is divided into; after the last nothing is
            trained.
        chunk_tokens, batch_seqs, grad_clip_norm, seq_len, reserve_s, compare: as in
            `pgolf.ttt.score_first`.
    """

    def __init__(
        self,
        *,
        lr: float,
        momentum: float = 0.9,
        epochs: int = 1,
        phases: int = 4,
        chunk_tokens: int,
        batch_seqs: int,
        grad_clip_norm: float = 1.0,
        seq_len: int,
        reserve_s: float,
        compare: bool = True,
    ) -> None:
        self.lr, self.momentum, self.epochs, self.phases = lr, momentum, epochs, phases
        self.chunk_tokens, self.batch_seqs, self.seq_len = chunk_tokens, batch_seqs, seq_len
        self.grad_clip_norm, self.reserve_s, self.compare = grad_clip_norm, reserve_s, compare

    def score(self, model: nn.Module, ledger: Ledger, world: World, clock: Clock) -> Adapted:
        """Score all parts of the ledger, which are this method's chunks, and adapt in between.

        Args:
            model: the ledger's; all ranks end with the same weights.
            clock: when the evaluation budget runs short, the rest is scored without adapting.
        """
        cast(Model, model).recurrence(True)
        trainer = ChunkTrainer(self, model, world)
        if world.device.type == "cuda":
            ledger.warm_up()
            trainer.warm_up()
        pace = Pace(clock, world, ledger.num_positions, self.reserve_s)
        texts: list[Tensor] = []
        num_trained = 0
        ends = self.phase_ends(ledger.num_parts)
        for end in ends:
            while len(texts) < end:
                texts.append(ledger.score_next())
                pace.after_scoring(ledger.total.tokens)
            if self.epochs > 0 and end < ends[-1]:
                num_trained += trainer.train_phase(texts, pace)
        notes = self.notes(num_trained, sum(ends[:-1]))
        return Adapted(True, REASON, adaptive=num_trained > 0, notes=notes)

    def phase_ends(self, num_chunks: int) -> list[int]:
        """Chunks scored at the end of each phase; fewer phases where there are fewer chunks."""
        ends = (num_chunks * (phase + 1) // self.phases for phase in range(self.phases))
        return sorted({end for end in ends if end > 0})

    def notes(self, num_trained: int, planned: int) -> list[str]:
        """Why there was less adaptation than one would think, if so."""
        if self.epochs == 0:
            return []
        if planned == 0:
            return [
                f"The text was scored in one phase (ttt.phases={self.phases}, chunks of "
                f"{self.chunk_tokens:,} tokens), so there was nothing to adapt for."
            ]
        if num_trained < planned:
            return [
                f"Trained on {num_trained:,} of {planned:,} chunks, counted in each phase, because "
                "the evaluation budget ran short: the rest was scored with the weights of then."
            ]
        return []
