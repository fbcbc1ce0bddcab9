"""Training windows: which tokens each batch holds, on every rank, and how a run continues exactly.

A window is seq_len + 1 tokens, inputs and targets overlapping by seq_len. Windows of a shard do
not overlap in their targets; they begin at a random phase, so that over the epochs a token is seen
at every position. Legend: B sequences of a rank, T = seq_len.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pgolf.data.stream import TokenStream
from pgolf.errors import UserError


def _check_length(shards: list[TokenStream], seq_len: int) -> list[TokenStream]:
    """The shards that hold at least one window.

    Raises:
        UserError: none does.
    """
    usable = [shard for shard in shards if shard.num_tokens > seq_len]
    if not usable:
        longest = max((shard.num_tokens for shard in shards), default=0)
        raise UserError(
            f"the longest training shard has {longest} tokens, one window of train.seq_len="
            f"{seq_len} needs {seq_len + 1}: use more text or a smaller scale.train_seq_len=..."
        )
    return usable


def check_dealt(num_shards: int, num_workers: int) -> None:
    """Raises UserError where the published loader cannot give each worker a shard."""
    if num_shards < num_workers:
        raise UserError(
            f"{num_shards} training shards for {num_workers} workers: the published loader gives "
            "each worker its own; use train.loader=global or more shards"
        )


def check_text_to_adapt(there: int, count: int) -> None:
    """Raises UserError where the training split has fewer tokens than validation."""
    if there < count:
        raise UserError(
            f"ttt.source=train takes as many tokens of the training split as validation has "
            f"({count:,}), but there are only {there:,}: use more text or less for validation"
        )


def _draw_phase(shard: TokenStream, seq_len: int, random: np.random.Generator) -> int:
    """Where a shard's first window begins; at least one window fits behind it."""
    return int(random.integers(min(seq_len, shard.num_tokens - seq_len)))


def _num_windows(shard: TokenStream, phase: int, seq_len: int) -> int:
    return (shard.num_tokens - 1 - phase) // seq_len


class GlobalLoader:
    """Windows of all shards shuffled together: the same batches for any number of ranks.

    Each epoch draws a phase for every shard and an order of all windows from the seed and its own
    number, so the position is two numbers.

    Args:
        shards: the training split.
        seq_len: tokens of a sequence.
        seed: of phases and order.

    Raises:
        UserError: no shard is as long as one window.
    """

    def __init__(self, shards: list[TokenStream], *, seq_len: int, seed: int) -> None:
        self.seq_len, self.seed = seq_len, seed
        self._shards = _check_length(shards, seq_len)
        self._begin(0)

    def _begin(self, epoch: int) -> None:
        random = np.random.default_rng((self.seed, epoch))
        phases = [_draw_phase(shard, self.seq_len, random) for shard in self._shards]
        counts = [
            _num_windows(shard, phase, self.seq_len)
            for shard, phase in zip(self._shards, phases, strict=True)
        ]
        self._epoch, self._position, self._phases = epoch, 0, phases
        self._ends = np.cumsum(counts)  # of each shard's windows in the numbering of all
        self._order = random.permutation(int(self._ends[-1]))

    def next_batch(self, num_seqs: int, rank: int, world_size: int) -> np.ndarray:
        """The next num_seqs windows, of which each rank takes a contiguous share.

        Args:
            num_seqs: sequences over all ranks, a multiple of world_size.

        Returns:
            this rank's windows, int64 [B, T + 1].
        """
        assert num_seqs % world_size == 0
        share = num_seqs // world_size
        first, last = rank * share, (rank + 1) * share
        windows_BT = np.empty((share, self.seq_len + 1), np.int64)
        done = 0  # of all ranks' sequences
        while done < num_seqs:
            if self._position == len(self._order):
                self._begin(self._epoch + 1)
            count = min(num_seqs - done, len(self._order) - self._position)
            a, b = max(done, first), min(done + count, last)
            if a < b:  # this rank's part of what the epoch has left
                at = self._position - done
                self._read(self._order[at + a : at + b], windows_BT[a - first : b - first])
            self._position, done = self._position + count, done + count
        return windows_BT

    def _read(self, windows: np.ndarray, rows_BT: np.ndarray) -> None:
        shards = np.searchsorted(self._ends, windows, side="right")
        before = np.concatenate(([0], self._ends))[shards]
        starts = np.asarray(self._phases)[shards] + (windows - before) * self.seq_len
        for row_T, shard, start in zip(rows_BT, shards.tolist(), starts.tolist(), strict=True):
            row_T[:] = self._shards[shard].ids[start : start + self.seq_len + 1]

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._begin(state["epoch"])
        self._position = state["position"]


class PublishedLoader:
    """The loader of PR #1738: files dealt over the ranks, each shuffled by itself.

    Every window is drawn from one of the rank's files, with probability proportional to the
    windows it has left; when all are used, all files begin again at new phases. The published
    generator is seeded by the rank alone, so every seed sees the same order, as recorded.

    Args:
        shards: the training split; rank r takes every world_size-th from the r-th on.
        seq_len: tokens of a sequence.
        seed: taken as every loader's, without effect.

    Raises:
        UserError: no shard is as long as one window; when drawing, also if a rank gets none.
    """

    def __init__(self, shards: list[TokenStream], *, seq_len: int, seed: int) -> None:
        self.seq_len = seq_len
        self._shards = _check_length(shards, seq_len)
        self._files: list[TokenStream] = []
        self._drawn = 0
        self._behind = 0  # draws of an earlier process that are still to be repeated

    def _deal(self, rank: int, world_size: int) -> None:
        check_dealt(len(self._shards), world_size)
        self._files = self._shards[rank::world_size]
        self._random = np.random.Generator(np.random.PCG64(rank))
        self._start_files()
        for _ in range(self._behind):
            self._draw()
        self._behind = 0

    def _start_files(self) -> None:
        self._phases, self._orders = [], []
        for file in self._files:
            # As published: without a choice nothing is drawn.
            choices = min(self.seq_len, file.num_tokens - self.seq_len)
            phase = _draw_phase(file, self.seq_len, self._random) if choices > 1 else 0
            self._phases.append(phase)
            num_windows = _num_windows(file, phase, self.seq_len)
            self._orders.append(self._random.permutation(num_windows))
        self._left = np.array([len(order) for order in self._orders])

    def _draw(self) -> tuple[int, int]:
        """(file, first token) of the next window."""
        total = self._left.sum()
        if total == 0:
            self._start_files()
            total = self._left.sum()
        # What Generator.choice(len(files), p=left / total) does, without its checks of p.
        reached = (self._left / total).cumsum()
        file = int((reached / reached[-1]).searchsorted(self._random.random(), side="right"))
        self._left[file] -= 1
        self._drawn += 1
        window = int(self._orders[file][self._left[file]])
        return file, self._phases[file] + window * self.seq_len

    def next_batch(self, num_seqs: int, rank: int, world_size: int) -> np.ndarray:
        """This rank's next windows, int64 [num_seqs / world_size, T + 1]."""
        assert num_seqs % world_size == 0
        if not self._files:
            self._deal(rank, world_size)
        windows_BT = np.empty((num_seqs // world_size, self.seq_len + 1), np.int64)
        for row_T in windows_BT:
            file, start = self._draw()
            row_T[:] = self._files[file].ids[start : start + self.seq_len + 1]
        return windows_BT

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self._drawn + self._behind}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        # Repeating the draws (a few microseconds each) puts everything back exactly.
        self._files, self._drawn, self._behind = [], 0, state["drawn"]
