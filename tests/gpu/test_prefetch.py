"""Batches drawn ahead by a thread: the same ones, an exact state, and no waiting."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from pgolf.data.loader import GlobalLoader
from pgolf.data.prefetch import AHEAD, Prefetch
from pgolf.data.stream import TokenStream
from pgolf.kernel.documents import document_borders

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
GPU = torch.device("cuda", 0)


def make(seq_len: int = 63) -> GlobalLoader:
    random = np.random.default_rng(0)
    shards = [TokenStream(random.integers(0, 8192, n).astype(np.uint16)) for n in (9000, 200_000)]
    return GlobalLoader(shards, seq_len=seq_len, seed=3)


def threads() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


def test_batches_and_states_are_those_of_the_loader() -> None:
    batches, loader = Prefetch(make(), 8, 0, 1, GPU), make()
    for number in range(60):
        expected = torch.from_numpy(loader.next_batch(8, 0, 1))
        found, _ = batches.next_batch()
        if number % 7 == 0:
            torch.cuda._sleep(50_000_000)  # copies wait for the GPU: buffers must not be reused
        assert found.device == GPU and found.dtype == torch.int64
        assert batches.state_dict() == loader.state_dict()
        assert torch.equal(found.cpu(), expected)
    batches.close()
    assert threads() == 0 and batches.state_dict() == loader.state_dict()


def test_buffers_are_not_overwritten_before_they_are_copied() -> None:
    batches, loader = Prefetch(make(), 8, 0, 1, GPU), make()
    torch.cuda._sleep(500_000_000)
    found = [batches.next_batch()[0] for _ in range(3 * AHEAD)]  # nothing is read back in between
    for batch in found:
        assert torch.equal(batch.cpu(), torch.from_numpy(loader.next_batch(8, 0, 1)))
    batches.close()


def test_a_state_in_the_middle_continues_exactly() -> None:
    batches = Prefetch(make(), 8, 0, 1, GPU)
    for _ in range(5):
        batches.next_batch()
    state = batches.state_dict()
    after = [batches.next_batch()[0] for _ in range(9)]
    other = Prefetch(make(), 8, 0, 1, GPU)
    for reader in (batches, other):  # back in the same one, and in a fresh one
        reader.load_state_dict(state)
        assert reader.state_dict() == state
        assert all(torch.equal(reader.next_batch()[0], batch) for batch in after)
        reader.close()


def test_borders_of_documents_come_along() -> None:
    batches, loader = Prefetch(make(), 8, 0, 1, GPU, document_bos=5), make()
    for _ in range(3 * AHEAD):
        ids_BT = torch.from_numpy(loader.next_batch(8, 0, 1))[:, :-1]
        borders = batches.next_batch()[1]
        assert borders is not None and borders.device == GPU
        assert torch.equal(borders.cpu(), document_borders(ids_BT, 5))
    batches.close()


class Failing(GlobalLoader):
    left = 3

    def next_batch(self, num_seqs: int, rank: int, world_size: int) -> np.ndarray:
        self.left -= 1
        if self.left < 0:
            raise KeyError("no more")
        return super().next_batch(num_seqs, rank, world_size)


def test_an_error_comes_with_the_batch_that_met_it() -> None:
    good = make()
    batches = Prefetch(Failing(good._shards, seq_len=63, seed=3), 8, 0, 1, GPU)
    for _ in range(3):
        assert torch.equal(
            batches.next_batch()[0].cpu(), torch.from_numpy(good.next_batch(8, 0, 1))
        )
    for _ in range(2):
        with pytest.raises(KeyError, match="no more"):
            batches.next_batch()
    assert batches.state_dict() == good.state_dict()
    batches.close()
    assert threads() == 0


def test_a_step_does_not_wait_for_its_batch() -> None:
    """With steps of 20 ms and a loader of 10 ms a batch is there at once."""

    class Slow(GlobalLoader):
        def next_batch(self, num_seqs: int, rank: int, world_size: int) -> np.ndarray:
            time.sleep(0.01)
            return super().next_batch(num_seqs, rank, world_size)

    batches = Prefetch(Slow(make()._shards, seq_len=63, seed=3), 8, 0, 1, GPU)
    batches.next_batch()
    waited = []
    for _ in range(20):
        time.sleep(0.02)
        start = time.perf_counter()
        batches.next_batch()
        waited.append(time.perf_counter() - start)
    batches.close()
    assert sorted(waited)[len(waited) // 2] < 0.002
