"""`ttt=prequant21`: some epochs of training before quantization (PR #1735, PR #1738).

As published it trains on the validation text before scoring it, so no score after it is eligible.
On training text, which is the honest control of that, it is.
Legend: B batch, T time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from pgolf.clock import Clock
from pgolf.distributed import World, to_device
from pgolf.errors import UserError
from pgolf.events import EventLog
from pgolf.kernel.replay import ForwardBackward
from pgolf.progress import Bar, track
from pgolf.protocols import Model
from pgolf.score import Score
from pgolf.ttt.adapted import Adapted
from pgolf.ttt.gradients import add_share, sum_gradients

if TYPE_CHECKING:
    from pgolf.data.stream import TokenStream

REASON = "trains on validation text before scoring it (condition 3: score before update)"
FAIR_REASON = "trains on training text only"
ALONE = World()


class PreQuantTTT:
    """AdamW over a stream for some epochs; the embedding and the first blocks are frozen.

    Recurrence is on. The stream is given by who runs this, according to `source`.

    Args:
        source: "validation" is the published method. "train" takes as many tokens of the training
            split, its last ones, whatever training has met of them: the honest control.
        sync: "epoch" deals the chunks round-robin over the ranks, each with its own optimizer, and
            averages the weights after each epoch (federated averaging, as published). "step" shares
            each batch among the ranks, so that their number changes the result by rounding alone.
        epochs: passes over the stream; 0 changes nothing.
        lr, min_lr_ratio: cosine over epochs from lr down towards lr * min_lr_ratio.
        freeze_blocks: number of first blocks that stay as they are, as does the embedding.
        weight_decay: AdamW's.
        chunk_tokens: tokens of a chunk; no batch reaches beyond its chunk.
        batch_seqs: most sequences of an optimizer step; with sync=step of all ranks together.
        grad_clip_norm: bound of the gradient norm.
        ema_decay: at the end take the average of the weights after each epoch, with this decay
            (0.7 in V14, where it was worse); None takes the last ones.
        diagnostic_every: evaluate after every so many epochs; 0 never.
        seq_len: tokens of a sequence; what a chunk has beyond whole sequences is left out.
    """

    def __init__(
        self,
        *,
        source: Literal["validation", "train"] = "validation",
        sync: Literal["epoch", "step"] = "epoch",
        epochs: int,
        lr: float,
        min_lr_ratio: float = 0.1,
        freeze_blocks: int = 2,
        weight_decay: float = 0.0,
        chunk_tokens: int,
        batch_seqs: int,
        grad_clip_norm: float = 1.0,
        ema_decay: float | None = None,
        diagnostic_every: int = 0,
        seq_len: int,
    ) -> None:
        self.source, self.sync = source, sync
        self.epochs, self.lr, self.min_lr = epochs, lr, lr * min_lr_ratio
        self.freeze_blocks, self.weight_decay = freeze_blocks, weight_decay
        self.chunk_tokens, self.batch_seqs, self.seq_len = chunk_tokens, batch_seqs, seq_len
        self.grad_clip_norm, self.ema_decay = grad_clip_norm, ema_decay
        self.diagnostic_every = diagnostic_every

    def adapt(
        self,
        model: nn.Module,
        stream: TokenStream,
        world: World,
        clock: Clock,
        events: EventLog,
        evaluate: Callable[[nn.Module], Score],
    ) -> Adapted:
        """Train the model in place; all ranks end with the same weights.

        Args:
            evaluate: the diagnostic evaluation.

        Raises:
            UserError: the stream or a chunk is shorter than one sequence.
        """
        if self.epochs == 0:
            return Adapted(True, "no test-time training (ttt.epochs=0)")
        self.check_lengths(stream)
        cast(Model, model).recurrence(True)
        model.train()
        dealt, sharing = (world, ALONE) if self.sync == "epoch" else (ALONE, world)
        steps = self.steps(stream.num_tokens - 1, dealt)
        per_epoch: list[dict[str, Any]] = []
        with (
            self.frozen(model),
            track("ttt", self.epochs * len(steps), "step", world.is_main) as bar,
        ):
            trained = [p for p in model.parameters() if p.requires_grad]
            optimizer = torch.optim.AdamW(
                trained, lr=self.lr, weight_decay=self.weight_decay, fused=True
            )
            forward_backward = ForwardBackward(model, world.autocast)
            average = EpochAverage(self.ema_decay)
            for epoch in range(self.epochs):
                lr = self.epoch_lr(epoch)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                losses, num_seqs = world.sum_floats(
                    *self.train_epoch(forward_backward, optimizer, stream, steps, sharing, bar)
                )
                average_weights(trained, dealt)
                average.update(trained)
                row = {"epoch": epoch + 1, "lr": lr, "train_loss": losses / num_seqs}
                measured = {"epoch": epoch + 1, "lr": lr, "train/loss": row["train_loss"]}
                if self.diagnostic_every and (epoch + 1) % self.diagnostic_every == 0:
                    row |= evaluate(model).as_dict()
                    measured["val/bpb"] = row["bpb"]
                events.emit("ttt_epoch", "ttt", **measured)
                per_epoch.append(row)
            average.copy_to(trained)
        return self.adapted(per_epoch, stream.num_tokens)

    def check_lengths(self, stream: TokenStream) -> None:
        if min(stream.num_tokens - 1, self.chunk_tokens) < self.seq_len:
            raise UserError(
                f"ttt.seq_len={self.seq_len} is longer than a chunk (ttt.chunk_tokens="
                f"{self.chunk_tokens}) or than the {self.source} text ({stream.num_tokens} "
                "tokens): use shorter sequences (scale.train_seq_len=...), more text, or ttt=none"
            )

    def adapted(self, per_epoch: list[dict[str, Any]], num_tokens: int) -> Adapted:
        if self.source == "validation":
            return Adapted(False, REASON, per_epoch)
        note = (
            f"Adapted before quantization on {num_tokens:,} tokens of training text "
            "(ttt.source=train), not on validation text."
        )
        return Adapted(True, FAIR_REASON, per_epoch, notes=[note])

    def epoch_lr(self, epoch: int) -> float:
        """Learning rate of an epoch (from 0): a cosine that would reach min_lr one epoch later."""
        cosine = math.cos(math.pi * epoch / self.epochs)
        return self.min_lr + 0.5 * (self.lr - self.min_lr) * (1.0 + cosine)

    def steps(self, num_targets: int, world: World) -> list[tuple[int, int]]:
        """(first token, sequences) of each optimizer step of an epoch on this rank.

        Args:
            world: the ranks that the chunks are dealt over.
        """
        steps = []
        for start in range(world.rank * self.chunk_tokens, num_targets,
                           world.world_size * self.chunk_tokens):  # fmt: skip
            end = min(start + self.chunk_tokens, num_targets)
            num_seqs = (end - start) // self.seq_len
            for first in range(0, num_seqs, self.batch_seqs):
                count = min(self.batch_seqs, num_seqs - first)
                steps.append((start + first * self.seq_len, count))
        return steps

    def train_epoch(
        self,
        forward_backward: ForwardBackward,
        optimizer: torch.optim.Optimizer,
        stream: TokenStream,
        steps: list[tuple[int, int]],
        sharing: World,
        bar: Bar,
    ) -> tuple[float, int]:
        """One pass over the chunks of this rank.

        Args:
            sharing: the ranks that share each batch.

        Returns:
            sum over the sequences that this rank computed of their loss, and their number.
        """
        trained = optimizer.param_groups[0]["params"]
        device = trained[0].device
        losses, num_seqs = torch.zeros((), dtype=torch.float64, device=device), 0
        for first, count in steps:
            tokens = _read(stream.ids, first, count * self.seq_len + 1, device)
            ids_BT, targets_BT = tokens[:-1].view(count, -1), tokens[1:].view(count, -1)
            loss, computed = add_share(forward_backward, ids_BT, targets_BT, sharing)
            sum_gradients(trained, sharing)
            nn.utils.clip_grad_norm_(trained, self.grad_clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses += loss
            num_seqs += computed
            bar.advance()
        return float(losses), num_seqs

    @contextmanager
    def frozen(self, model: nn.Module) -> Iterator[None]:
        """Only what is trained requires a gradient inside; as before afterwards."""
        before = {name: p.requires_grad for name, p in model.named_parameters()}
        prefixes = ("tok_emb.", *(f"blocks.{i}." for i in range(self.freeze_blocks)))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(prefixes))
        try:
            yield
        finally:
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(before[name])


class EpochAverage:
    """Moving average of weights after each epoch, beginning with the first; None keeps none."""

    def __init__(self, decay: float | None) -> None:
        self.decay = decay
        self.average: list[Tensor] = []

    @torch.no_grad()
    def update(self, parameters: list[nn.Parameter]) -> None:
        if self.decay is None:
            return
        weights = [p.detach().float() for p in parameters]
        if not self.average:
            self.average = [weight.clone() for weight in weights]
        else:
            torch._foreach_lerp_(self.average, weights, 1.0 - self.decay)

    @torch.no_grad()
    def copy_to(self, parameters: list[nn.Parameter]) -> None:
        for parameter, average in zip(parameters, self.average, strict=False):
            parameter.copy_(average)


@torch.no_grad()
def average_weights(parameters: list[nn.Parameter], world: World) -> None:
    """Mean of each parameter over the ranks, in one all-reduce."""
    if world.world_size == 1:
        return
    weights = [parameter.detach().float() for parameter in parameters]
    world.sum_all_(weights)
    for parameter, weight in zip(parameters, weights, strict=True):
        parameter.copy_(weight / world.world_size)


def _read(ids: np.ndarray, first: int, count: int, device: torch.device) -> Tensor:
    return to_device(torch.from_numpy(ids[first : first + count].astype(np.int64)), device)
