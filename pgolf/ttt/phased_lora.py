"""`ttt=phased_lora`: each document with adapters of its own, and phases that train the model.

PR #1855, by way of #1530, #1610, #1626 and #1767. It learns from scored text only, so the score is
eligible on the adaptive track. Legend: B documents side by side, N positions of a chunk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from pgolf.clock import Clock
from pgolf.distributed import World
from pgolf.kernel.attention import varying_shapes
from pgolf.protocols import Model
from pgolf.ttt.adapted import Adapted
from pgolf.ttt.adapters import Key, LoraAdapters, Site, find_sites
from pgolf.ttt.document_ledger import DocumentLedger, Sealed
from pgolf.ttt.documents import DocumentOrder
from pgolf.ttt.ledger import synthetic_ids
from pgolf.ttt.pace import Pace
from pgolf.ttt.predictor import nll_of
from pgolf.ttt.score_first import ChunkTrainer

if TYPE_CHECKING:
    from collections.abc import Sequence

REASON = "adapts to a document, and to all documents, only after that text is scored"
ORDER_NOTE = "Documents are scored longest first, an order that their lengths alone decide."


class PhasedLoraTTT:
    """Scores documents side by side, chunk by chunk, and learns from each chunk after its score.

    The loss that gave a chunk's score is at once the loss of one AdamW step of its document's
    low-rank adapters, which begin afresh with each document. After each phase, SGD trains the model
    itself on all documents scored so far, in batches of all ranks together. So the number of ranks
    changes the score by rounding alone.

    Args:
        rank, alpha_per_rank: of the adapters, and the factor on what they add.
        lora_lr, lora_beta2, lora_eps, lora_weight_decay: of their AdamW, which has no momentum.
        lora_chunk_tokens: positions of a document that are scored before it learns from them.
        batch_docs: most documents side by side on a rank.
        seed: of the adapters' first values; the place of a document in the queue is added.
        prefix_docs: the first so many documents, or all, are divided into phases; 0 leaves the
            model as it is.
        phases: of equal numbers of documents; after the last document of all nothing is trained.
        lr: of SGD for the model's first chunk in a phase; a cosine would bring it to 0 one chunk
            after the last.
        momentum: SGD's, from 0 in each phase.
        epochs: passes over a chunk.
        chunk_tokens, batch_seqs, grad_clip_norm, seq_len, reserve_s, compare: as in
            `pgolf.ttt.score_first`.
    """

    def __init__(
        self,
        *,
        rank: int,
        alpha_per_rank: float = 1.8,
        lora_lr: float = 1e-4,
        lora_beta2: float = 0.99,
        lora_eps: float = 1e-10,
        lora_weight_decay: float = 0.5,
        lora_chunk_tokens: int,
        batch_docs: int,
        seed: int = 0,
        prefix_docs: int = 2500,
        phases: int = 3,
        lr: float = 1e-3,
        momentum: float = 0.9,
        epochs: int = 1,
        chunk_tokens: int,
        batch_seqs: int,
        grad_clip_norm: float = 1.0,
        seq_len: int,
        reserve_s: float,
        compare: bool = True,
    ) -> None:
        self.rank, self.alpha_per_rank, self.seed = rank, alpha_per_rank, seed
        self.lora_lr, self.lora_beta2 = lora_lr, lora_beta2
        self.lora_eps, self.lora_weight_decay = lora_eps, lora_weight_decay
        self.documents = DocumentOrder(lora_chunk_tokens, batch_docs, prefix_docs, phases)
        self.lr, self.momentum, self.epochs = lr, momentum, epochs
        self.chunk_tokens, self.batch_seqs, self.seq_len = chunk_tokens, batch_seqs, seq_len
        self.grad_clip_norm, self.reserve_s, self.compare = grad_clip_norm, reserve_s, compare

    def score(
        self, model: nn.Module, ledger: DocumentLedger, world: World, clock: Clock
    ) -> Adapted:
        """Score all documents of the ledger, and adapt in between.

        Args:
            model: the ledger's; all ranks end with the same weights.
            clock: when the evaluation budget runs short, the rest is scored without adapting.
        """
        cast(Model, model).recurrence(True)
        model.requires_grad_(False)
        sites = find_sites(model, world)
        pace = Pace(clock, world, ledger.work, self.reserve_s)
        learning = self.warm_up(model, sites, ledger, world, pace)
        adapted_docs = num_steps = num_trained = num_chunks = 0
        for part in ledger.rounds():
            adapts = pace.has_time(learning * pace.seconds_of(part.work))
            if adapts:
                num_steps += self.score_and_learn(
                    ledger, self.adapters(model, sites, part.documents)
                )
                adapted_docs = part.end
            else:
                score_plainly(ledger, model)
            pace.after_scoring(ledger.work_done, 1.0 / (1.0 + learning) if adapts else 1.0)
            if part.ends_phase and self.epochs > 0:
                chunks = self.chunks(ledger.text_so_far())
                num_chunks += len(chunks)
                num_trained += ChunkTrainer(self, model, world).train_phase(chunks, pace)
                model.requires_grad_(False)
        notes = self.notes(adapted_docs, ledger.num_documents, num_trained, num_chunks)
        # The ranks' first documents are the longest: where any had a step, all have.
        return Adapted(True, REASON, adaptive=num_steps + num_trained > 0, notes=notes)

    def adapters(
        self, model: nn.Module, sites: dict[Key, list[Site]], places: Sequence[int]
    ) -> LoraAdapters:
        """Fresh ones for documents, given their places in the queue."""
        seeds = [self.seed + place for place in places]
        return LoraAdapters(model, sites, seeds, rank=self.rank, scale=self.alpha_per_rank)

    def score_and_learn(self, ledger: DocumentLedger, adapters: LoraAdapters) -> int:
        """Score the open documents to their end and learn on the way; returns optimizer steps."""
        optimizer, num_steps = self.optimizer(adapters), 0
        while (sealed := ledger.score_next(adapters)) is not None:
            if sealed.num_going_on:
                learn(optimizer, sealed)
                num_steps += 1
        return num_steps

    def optimizer(self, adapters: LoraAdapters) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            adapters.trained(),
            lr=self.lora_lr,
            betas=(0.0, self.lora_beta2),
            eps=self.lora_eps,
            weight_decay=self.lora_weight_decay,
            fused=True,
        )

    def chunks(self, text: Tensor) -> list[Tensor]:
        """The text in chunks of inputs and, shifted by one, targets; without a short rest."""
        starts = range(0, len(text) - self.seq_len, self.chunk_tokens)
        return [text[start : start + self.chunk_tokens + 1] for start in starts]

    def warm_up(
        self,
        model: nn.Module,
        sites: dict[Key, list[Site]],
        ledger: DocumentLedger,
        world: World,
        pace: Pace,
    ) -> float:
        """Score random ids and learn from them in the largest shapes, and time both.

        Returns:
            what learning takes on top of scoring, as a multiple of the latter, never below 0.
        """
        rows, size = ledger.largest_batch()
        ids_BT = synthetic_ids(model, rows * size).view(rows, size).to(world.device)
        targets_BN = ids_BT[:, -self.documents.chunk_tokens :]
        adapters = self.adapters(model, sites, range(rows))
        optimizer = self.optimizer(adapters)
        plain_s = adaptive_s = 0.0
        for _ in range(2):  # the first compiles kernels
            pace.lap_s()
            with torch.no_grad(), world.autocast(), varying_shapes():
                nll_of(cast(Model, model), ids_BT, targets_BN)
            plain_s = pace.lap_s()
            with world.autocast(), varying_shapes():
                nll_BN = nll_of(adapters, ids_BT, targets_BN)
            learn(optimizer, Sealed(nll_BN, rows))
            adaptive_s = pace.lap_s()
        pace.expect(ledger.work_of(rows, size), plain_s)
        # Of a pass of milliseconds, the timer may say that learning took less than nothing.
        return max(0.0, (adaptive_s - plain_s) / plain_s) if plain_s else 0.0

    def notes(
        self, adapted_docs: int, num_documents: int, num_trained: int, num_chunks: int
    ) -> list[str]:
        """What a reader has to know: the order, and why there was less adaptation, if so."""
        why = "because the evaluation budget ran short: the rest was scored as things were then."
        notes = [ORDER_NOTE]
        if adapted_docs < num_documents:
            notes.append(f"Adapted to {adapted_docs:,} of {num_documents:,} documents, {why}")
        if num_trained < num_chunks:
            notes.append(
                f"Trained on {num_trained:,} of {num_chunks:,} chunks, counted in each phase, {why}"
            )
        return notes


def learn(optimizer: torch.optim.Optimizer, sealed: Sealed) -> None:
    """One step on the mean loss of each document that goes on, summed over these documents."""
    sealed.nll[: sealed.num_going_on].mean(dim=1).sum().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def score_plainly(ledger: DocumentLedger, model: nn.Module) -> None:
    """Score the open documents to their end with the model as it is."""
    while ledger.score_next(cast(Model, model)) is not None:
        pass
