"""Reading ahead, as far as it goes without a GPU; tests/gpu has the thread and its ring."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pgolf.data.loader import GlobalLoader, PublishedLoader
from pgolf.data.prefetch import Prefetch
from pgolf.data.stream import TokenStream
from pgolf.kernel.documents import document_borders

CPU = torch.device("cpu")


def make(kind: type[GlobalLoader]) -> GlobalLoader:
    shards = [TokenStream(np.arange(n, dtype=np.uint16)) for n in (300, 500)]
    return kind(shards, seq_len=7, seed=3)


@pytest.mark.parametrize("kind", [GlobalLoader, PublishedLoader])
@pytest.mark.parametrize("rank", [0, 1])
def test_batches_and_states_are_those_of_the_loader(kind: type[GlobalLoader], rank: int) -> None:
    batches, loader = Prefetch(make(kind), 6, rank, 2, CPU), make(kind)
    assert batches.state_dict() == loader.state_dict()
    for _ in range(40):
        expected = loader.next_batch(6, rank, 2)
        found, borders = batches.next_batch()
        assert borders is None
        assert found.dtype == torch.int64 and np.array_equal(found.numpy(), expected)
        assert batches.state_dict() == loader.state_dict()
    state = batches.state_dict()
    after = [batches.next_batch()[0] for _ in range(5)]
    batches.load_state_dict(state)
    assert all(torch.equal(batches.next_batch()[0], batch) for batch in after)
    batches.close()


def test_borders_are_those_of_the_inputs() -> None:
    batches = Prefetch(make(GlobalLoader), 6, 0, 1, CPU, document_bos=40)
    loader = make(GlobalLoader)
    for _ in range(20):
        tokens_BT = torch.from_numpy(loader.next_batch(6, 0, 1))
        found, borders = batches.next_batch()
        assert torch.equal(found, tokens_BT) and borders is not None
        assert torch.equal(borders, document_borders(tokens_BT[:, :-1], 40))
