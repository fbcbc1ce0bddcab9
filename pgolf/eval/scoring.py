"""Scoring windows of a token stream: which positions count, and the sum of nats, tokens and bytes.

An evaluator is a choice of `Windows`; this is the only place that adds nats up to a score.
Legend: B batch, T time (window length), N scored positions at the end of a window, W windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from pgolf.distributed import World, to_device
from pgolf.eval.by_document import TalliedStream
from pgolf.progress import Bar, track
from pgolf.protocols import Model
from pgolf.score import Score

if TYPE_CHECKING:
    from pgolf.data.stream import TokenStream

# A GPU's batch of full size takes a CPU gigabytes, and minutes without a word of progress.
CPU_BATCH_TOKENS = 2**14


@dataclass(frozen=True)
class Batch:
    """Windows that go through the model together.

    Args:
        starts: index in the stream of each window's first input token, int64 [B].
        num_scored: the last positions of each window that are scored, N.
    """

    starts: np.ndarray
    num_scored: int


@dataclass(frozen=True)
class Windows:
    """All windows of an evaluation, in the order of the positions that they score.

    A position is named by the index of the input token there; its target is the token after it.

    Args:
        starts: index in the stream of each window's first input token, int64 [W].
        scored_from: first position that each window scores; it scores all from there to its end,
            where the next one goes on. int64 [W], ascending.
        seq_len: tokens that the model sees at once.
        batch_seqs: windows that go through the model together, at most; fewer on a CPU.
    """

    starts: np.ndarray
    scored_from: np.ndarray
    seq_len: int
    batch_seqs: int

    def between(self, begin: int, end: int) -> Windows:
        """Those whose scored part begins at position begin or later, and before end."""
        first, last = np.searchsorted(self.scored_from, (begin, end))
        starts, scored_from = self.starts[first:last], self.scored_from[first:last]
        return Windows(starts, scored_from, self.seq_len, self.batch_seqs)

    def score(
        self, model: nn.Module, stream: TokenStream, world: World, bar: Bar | None = None
    ) -> Score:
        """Nats, tokens and bytes of what they score, the work dealt over the ranks.

        Args:
            bar: counts this rank's windows; None shows a bar of its own.
        """
        starts, scored_from = rank_share(self.starts, world), rank_share(self.scored_from, world)
        num_scored = self.seq_len - (scored_from - starts)
        batch_seqs = self.batch_seqs
        if world.device.type == "cpu":
            batch_seqs = min(batch_seqs, max(1, CPU_BATCH_TOKENS // self.seq_len))
        batches: list[Batch] = []
        for count in dict.fromkeys(num_scored.tolist()):
            batches += make_batches(starts[num_scored == count], count, batch_seqs)
        if bar is not None:
            return score_batches(model, stream, batches, self.seq_len, world, bar)
        with track("evaluate", len(starts), "window", world.is_main) as own:
            return score_batches(model, stream, batches, self.seq_len, world, own)


def make_batches(starts: np.ndarray, num_scored: int, batch_seqs: int) -> list[Batch]:
    """Cut a list of window starts into batches of at most batch_seqs."""
    cuts = range(0, len(starts), batch_seqs)
    return [Batch(starts[cut : cut + batch_seqs], num_scored) for cut in cuts]


def rank_share(starts: np.ndarray, world: World) -> np.ndarray:
    """This rank's contiguous part of the windows; parts differ by one window at most."""
    total, rank, world_size = len(starts), world.rank, world.world_size
    return starts[total * rank // world_size : total * (rank + 1) // world_size]


@torch.inference_mode()
def score_batches(
    model: nn.Module,
    stream: TokenStream,
    batches: list[Batch],
    seq_len: int,
    world: World,
    bar: Bar,
) -> Score:
    """Sum of nats, tokens and raw bytes over the scored positions of all ranks' batches.

    A window that reaches beyond the stream is padded with token 0 after its end: the model is
    causal, so the padding changes no score, and it is not scored itself. Nats are summed in
    float64 on the device, without waiting for it.

    Args:
        model: `nll(ids_BT, targets_BN)`.
        batches: this rank's work; the model sees seq_len tokens of each window.
        bar: counts windows.

    Returns:
        The score of all ranks together, the same on each.
    """
    was_training, language_model = model.training, cast(Model, model)
    model.eval()
    nats = torch.zeros((), dtype=torch.float64, device=world.device)
    num_tokens = num_bytes = 0
    # One autocast region for all batches: weights are cast to bf16 once.
    with world.autocast():
        for batch in batches:
            ids_BT, targets_BN, counted_BN, raw_bytes = _gather(stream, batch, seq_len)
            # Counted on the CPU: nobody waits for the device.
            scored_BN = counted_BN.numpy()
            num_tokens += int(scored_BN.sum())
            ids_BT, targets_BN, counted_BN = (
                to_device(tensor, world.device) for tensor in (ids_BT, targets_BN, counted_BN)
            )
            nll_BN = language_model.nll(ids_BT, targets_BN) * counted_BN
            nats += nll_BN.sum(dtype=torch.float64)
            if isinstance(stream, TalliedStream):
                stream.add(batch.starts, seq_len, scored_BN, nll_BN)
            num_bytes += raw_bytes
            bar.advance(len(batch.starts))
    model.train(was_training)
    nats_all, tokens_all, bytes_all = world.sum_floats(float(nats), num_tokens, num_bytes)
    return Score(nats_all, int(tokens_all), int(bytes_all))


def _gather(stream: TokenStream, batch: Batch, seq_len: int) -> tuple[Tensor, Tensor, Tensor, int]:
    """Inputs, targets and a mask of scored positions, and the raw bytes of the scored targets."""
    last = stream.num_tokens - 1
    window_BT = batch.starts[:, None] + np.arange(seq_len)[None, :]
    ids_BT = np.where(window_BT < last, stream.ids[np.minimum(window_BT, last)], 0)
    target_BN = window_BT[:, seq_len - batch.num_scored :] + 1
    counted_BN = target_BN <= last
    target_BN = np.minimum(target_BN, last)
    raw_bytes = int(stream.raw_bytes[target_BN][counted_BN].sum(dtype=np.int64))
    return (
        torch.from_numpy(ids_BT.astype(np.int64)),
        torch.from_numpy(stream.ids[target_BN].astype(np.int64)),
        torch.from_numpy(counted_BN),
        raw_bytes,
    )
