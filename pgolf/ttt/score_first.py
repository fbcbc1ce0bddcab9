"""`ttt=score_first`: scores a chunk of the validation text, then trains on it (PR #1493).

It learns from scored text only, so the score is eligible on the adaptive track.
Legend: B batch, S sequences of a chunk, T time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor, nn

from pgolf.clock import Clock
from pgolf.distributed import World
from pgolf.kernel.replay import EAGER_PASSES, ForwardBackward
from pgolf.protocols import Model
from pgolf.ttt.adapted import Adapted, one_chunk_note
from pgolf.ttt.gradients import add_share, sum_gradients
from pgolf.ttt.ledger import synthetic_ids
from pgolf.ttt.pace import Pace

if TYPE_CHECKING:
    from pgolf.ttt.ledger import Ledger

REASON = "trains on validation text only after that text is scored"


class ScoreFirstTTT:
    """SGD over each chunk after its score, for some epochs, on all weights; not after the last.

    A step is one batch of all ranks together, so that their number changes the score by rounding
    alone. What a chunk has beyond whole sequences is scored and not trained on.

    Args:
        lr: of the first chunk; a cosine over the chunks brings it to 0 at the last.
        momentum: SGD's, kept from chunk to chunk.
        epochs: passes over a chunk; 0 adapts nothing.
        chunk_tokens: tokens that are scored before they are trained on.
        batch_seqs: most sequences of an optimizer step, over all ranks.
        grad_clip_norm: bound of the gradient norm.
        seq_len: tokens of a training sequence.
        reserve_s: seconds of the evaluation budget that adaptation leaves, besides those that
            scoring the rest will take: workers have to start, and to end.
        compare: score everything with the unadapted model as well, as the control; its seconds are
            diagnostic.
    """

    def __init__(
        self,
        *,
        lr: float,
        momentum: float = 0.9,
        epochs: int = 3,
        chunk_tokens: int,
        batch_seqs: int,
        grad_clip_norm: float = 1.0,
        seq_len: int,
        reserve_s: float,
        compare: bool = True,
    ) -> None:
        self.lr, self.momentum, self.epochs = lr, momentum, epochs
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
        last, num_adapted = ledger.num_parts - 1, 0
        for chunk in range(ledger.num_parts):
            text = ledger.score_next()
            goes_on = pace.after_scoring(ledger.total.tokens)
            if self.epochs > 0 and chunk < last and goes_on:
                trainer.train(text, self.chunk_lr(chunk, ledger.num_parts))
                pace.after_adapting()
                num_adapted += 1
        notes = self.notes(num_adapted, last)
        return Adapted(True, REASON, adaptive=num_adapted > 0, notes=notes)

    def notes(self, num_adapted: int, last: int) -> list[str]:
        """Why there was less adaptation than one would think, if so."""
        if self.epochs == 0:
            return []
        if last == 0:
            return [one_chunk_note(self.chunk_tokens)]
        if num_adapted < last:
            return [
                f"Adapted on {num_adapted:,} of {last:,} chunks, because the evaluation budget ran "
                "short: the rest was scored with the weights of then."
            ]
        return []

    def chunk_lr(self, chunk: int, num_chunks: int) -> float:
        """Learning rate after the score of a chunk (from 0): a cosine down to 0 at the last."""
        return 0.5 * self.lr * (1.0 + math.cos(math.pi * chunk / max(1, num_chunks - 1)))


class TrainerSettings(Protocol):
    """What a method says of its SGD; see `ScoreFirstTTT`."""

    lr: float
    momentum: float
    epochs: int
    chunk_tokens: int
    batch_seqs: int
    grad_clip_norm: float
    seq_len: int


class ChunkTrainer:
    """The model's SGD, data-parallel; momentum is kept from chunk to chunk."""

    def __init__(self, settings: TrainerSettings, model: nn.Module, world: World) -> None:
        self.settings, self.model, self.world = settings, model, world
        self.trained = list(model.parameters())
        for parameter in self.trained:
            parameter.requires_grad_(True)
        self.optimizer = torch.optim.SGD(self.trained, lr=settings.lr, momentum=settings.momentum)
        self.forward_backward = ForwardBackward(model, world.autocast)

    def train(self, text: Tensor, lr: float) -> None:
        """Some epochs over a chunk's whole sequences.

        Args:
            text: ids of inputs and, shifted by one, targets, int64 [n+1].
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        seq_len, size = self.settings.seq_len, self.settings.batch_seqs
        num_seqs = (len(text) - 1) // seq_len
        text = text[: num_seqs * seq_len + 1].to(self.world.device)
        ids_ST, targets_ST = text[:-1].view(num_seqs, -1), text[1:].view(num_seqs, -1)
        self.model.train()
        for _ in range(self.settings.epochs):
            for first in range(0, num_seqs, size):
                self.step(ids_ST[first : first + size], targets_ST[first : first + size])

    def train_phase(self, texts: list[Tensor], pace: Pace) -> int:
        """Train on several chunks, from no momentum; returns how many before time ran out.

        Learning rates are a cosine over them, which would reach 0 one chunk after the last.
        """
        self.optimizer.state.clear()
        for chunk, text in enumerate(texts):
            if not pace.has_time(pace.longest_adaptation_s):
                return chunk
            cosine = math.cos(math.pi * chunk / len(texts))
            self.train(text, 0.5 * self.settings.lr * (1.0 + cosine))
            pace.after_adapting()
        return len(texts)

    def step(self, ids_BT: Tensor, targets_BT: Tensor) -> None:
        """One step on the batch of all ranks, of which this one computes its share."""
        self.add_gradients(ids_BT, targets_BT)
        sum_gradients(self.trained, self.world)
        nn.utils.clip_grad_norm_(self.trained, self.settings.grad_clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def add_gradients(self, ids_BT: Tensor, targets_BT: Tensor) -> None:
        """This rank's part of the gradient of the batch's mean loss, which may be none."""
        add_share(self.forward_backward, ids_BT, targets_BT, self.world)

    def warm_up(self) -> None:
        """Passes over random ids in the shapes of a chunk; gradients are thrown away."""
        settings = self.settings
        num_seqs = settings.chunk_tokens // settings.seq_len
        size = num_seqs * settings.seq_len
        text = synthetic_ids(self.model, size + 1).to(self.world.device)
        ids_ST, targets_ST = text[:-1].view(num_seqs, -1), text[1:].view(num_seqs, -1)
        self.model.train()
        for first in [*range(0, num_seqs, settings.batch_seqs)] * (EAGER_PASSES + 1):
            batch = slice(first, first + settings.batch_seqs)
            self.add_gradients(ids_ST[batch], targets_ST[batch])
            self.optimizer.zero_grad(set_to_none=True)
