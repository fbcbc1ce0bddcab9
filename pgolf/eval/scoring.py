"""Scoring windows of a token stream: which positions count, and the sum of nats, tokens and bytes.

Every evaluator is a list of `Window`s; this is the only place that adds nats up to a score.
Legend: B batch, T time (window length), N scored positions at the end of a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from pgolf.distributed import World
from pgolf.progress import track
from pgolf.protocols import Model
from pgolf.score import Score

if TYPE_CHECKING:
    from pgolf.data.stream import TokenStream


@dataclass(frozen=True)
class Batch:
    """Windows that go through the model together.

    Args:
        starts: index in the stream of each window's first input token, int64 [B].
        num_scored: the last positions of each window that are scored, N.
    """

    starts: np.ndarray
    num_scored: int


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
    model: nn.Module, stream: TokenStream, batches: list[Batch], seq_len: int, world: World
) -> Score:
    """Sum of nats, tokens and raw bytes over the scored positions of all ranks' batches.

    A window that reaches beyond the stream is padded with token 0 after its end: the model is
    causal, so the padding changes no score, and it is not scored itself. Nats are summed in
    float64 on the device, without waiting for it.

    Args:
        model: `nll(ids_BT, targets_BN)`.
        batches: this rank's work; the model sees seq_len tokens of each window.

    Returns:
        The score of all ranks together, the same on each.
    """
    was_training, language_model = model.training, cast(Model, model)
    model.eval()
    nats = torch.zeros((), dtype=torch.float64, device=world.device)
    num_tokens = num_bytes = 0
    total = sum(len(batch.starts) for batch in batches)
    # One autocast region for all batches: weights are cast to bf16 once.
    with track("evaluate", total, "window", world.is_main) as bar, world.autocast():
        for batch in batches:
            ids_BT, targets_BN, counted_BN, raw_bytes = _gather(stream, batch, seq_len)
            nll_BN = language_model.nll(_to(ids_BT, world.device), _to(targets_BN, world.device))
            nats += (nll_BN * _to(counted_BN, world.device)).sum(dtype=torch.float64)
            num_tokens += int(counted_BN.sum())
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


def _to(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
