"""Loaders: every window once an epoch, the same batches for any number of ranks, exact resume."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.data.loader import GlobalLoader, PublishedLoader
from pgolf.data.stream import TokenStream
from pgolf.errors import UserError

GAP = 5000  # between the first ids of two shards


def shards_of(lengths: list[int]) -> list[TokenStream]:
    """Shards that count up, so that a window's first id says where it was cut."""
    return [
        TokenStream((i * GAP + np.arange(length)).astype(np.uint16))
        for i, length in enumerate(lengths)
    ]


def starts(batch_BT: np.ndarray) -> list[tuple[int, int]]:
    """(shard, position) of each window, which has to be one piece of one shard."""
    assert batch_BT.dtype == np.int64
    assert (np.diff(batch_BT, axis=1) == 1).all()
    return [divmod(int(first), GAP) for first in batch_BT[:, 0]]


SIZES = st.lists(st.integers(1, 200), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(1, 12), st.integers(0, 99))
def test_an_epoch_has_every_window_once(lengths: list[int], seq_len: int, seed: int) -> None:
    if max(lengths) <= seq_len:
        return
    loader = GlobalLoader(shards_of(lengths), seq_len=seq_len, seed=seed)
    epochs: dict[int, list[tuple[int, int]]] = {}
    while True:
        window, epoch = starts(loader.next_batch(1, 0, 1)), loader.state_dict()["epoch"]
        if epoch == 3:
            break
        epochs.setdefault(epoch, []).extend(window)
    assert list(epochs) == [0, 1, 2]
    for seen, (shard, length) in itertools.product(epochs.values(), enumerate(lengths)):
        positions = sorted(position for s, position in seen if s == shard)
        if length <= seq_len:
            assert positions == []
            continue
        # One phase, no gap, and nothing more would fit before or behind.
        assert positions == list(range(positions[0], length - seq_len, seq_len))
        assert positions[0] < seq_len


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 9))
def test_batches_do_not_depend_on_ranks_or_micro_batches(
    world_size: int, micro: int, seed: int
) -> None:
    shards = shards_of([150, 40, 90])
    one = GlobalLoader(shards, seq_len=7, seed=seed)
    ranks = [GlobalLoader(shards, seq_len=7, seed=seed) for _ in range(world_size)]
    for _ in range(4):
        whole = starts(one.next_batch(world_size * micro, 0, 1))
        parts = [
            starts(loader.next_batch(world_size * micro, rank, world_size))
            for rank, loader in enumerate(ranks)
        ]
        assert [window for part in parts for window in part] == whole
    split = GlobalLoader(shards, seq_len=7, seed=seed)
    for _ in range(4 * micro):
        split.next_batch(world_size, 0, 1)
    assert split.state_dict() == one.state_dict()


def test_seeds_and_epochs_differ_in_order_and_phase() -> None:
    shards = shards_of([2000])
    orders = []
    for seed in (1, 2):
        loader = GlobalLoader(shards, seq_len=16, seed=seed)
        orders += [starts(loader.next_batch(124, 0, 1)) for _ in range(2)]
    assert len({tuple(order) for order in orders}) == 4
    assert len({order[0][1] % 16 for order in orders}) > 1
    assert all(order != sorted(order) for order in orders)


LOADERS = [GlobalLoader, PublishedLoader]


@pytest.mark.parametrize("make", LOADERS)
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("batches", [0, 1, 5, 40])
def test_resume_continues_exactly(make: type[GlobalLoader], rank: int, batches: int) -> None:
    shards = shards_of([150, 140, 90, 60])
    loader = make(shards, seq_len=7, seed=3)
    for _ in range(batches):
        loader.next_batch(6, rank, 2)
    state = json.loads(json.dumps(loader.state_dict()))
    resumed = make(shards, seq_len=7, seed=3)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    for _ in range(30):
        expected, found = loader.next_batch(6, rank, 2), resumed.next_batch(6, rank, 2)
        assert np.array_equal(expected, found)
    assert resumed.state_dict() == loader.state_dict()


@pytest.mark.parametrize("make", LOADERS)
def test_loading_an_earlier_state_goes_back(make: type[GlobalLoader]) -> None:
    loader = make(shards_of([150, 140]), seq_len=7, seed=3)
    loader.next_batch(4, 0, 1)
    state, expected = loader.state_dict(), loader.next_batch(50, 0, 1)
    loader.next_batch(50, 0, 1)
    loader.load_state_dict(state)
    assert np.array_equal(loader.next_batch(50, 0, 1), expected)


@pytest.mark.parametrize("make", LOADERS)
def test_text_shorter_than_a_window_is_refused(make: type[GlobalLoader]) -> None:
    make(shards_of([17]), seq_len=16, seed=0).next_batch(3, 0, 1)
    with pytest.raises(UserError, match=r"16 tokens, one window of train.seq_len=16 needs 17"):
        make(shards_of([16, 3]), seq_len=16, seed=0)
    with pytest.raises(UserError, match="0 tokens"):
        make([], seq_len=16, seed=0)


def test_published_loader_needs_a_file_for_each_rank() -> None:
    loader = PublishedLoader(shards_of([50, 50]), seq_len=7, seed=0)
    with pytest.raises(UserError, match="2 training shards for 3 workers"):
        loader.next_batch(3, 2, 3)


def slow_published(
    shards: list[TokenStream], seq_len: int, rank: int, world: int, count: int
) -> list:
    """The description in words, with lists: count windows as token lists."""
    files = [shard.ids.tolist() for shard in shards][rank::world]
    random = np.random.Generator(np.random.PCG64(rank))
    windows: list[list[list[int]]] = []

    def fill() -> None:
        windows.clear()
        for ids in files:
            last_phase = min(seq_len - 1, len(ids) - seq_len - 1)
            phase = int(random.integers(last_phase + 1)) if last_phase > 0 else 0
            number = (len(ids) - 1 - phase) // seq_len
            cuts = [phase + int(k) * seq_len for k in random.permutation(number)]
            windows.append([ids[cut : cut + seq_len + 1] for cut in cuts])

    fill()
    drawn = []
    while len(drawn) < count:
        left = np.array([len(file) for file in windows])
        if not left.sum():
            fill()
            continue
        drawn.append(windows[int(random.choice(len(files), p=left / left.sum()))].pop())
    return drawn


@pytest.mark.parametrize(("rank", "world_size"), [(0, 1), (0, 2), (1, 2), (2, 3)])
def test_published_loader_equals_its_description(rank: int, world_size: int) -> None:
    shards = shards_of([150, 140, 90, 8, 60])
    expected = slow_published(shards, 7, rank, world_size, 120)
    for seed in (0, 1):  # the published order is the same for every seed
        loader = PublishedLoader(shards, seq_len=7, seed=seed)
        parts = [loader.next_batch(3 * world_size, rank, world_size) for _ in range(40)]
        assert np.concatenate(parts).tolist() == expected


@pytest.mark.parametrize("batches", [0, 1, 13, 60])
def test_a_batch_follows_from_seed_rank_world_and_number(batches: int) -> None:
    """The position is plain arithmetic while the epoch lasts: no history decides a batch."""
    shards = shards_of([900, 1400])
    loader = GlobalLoader(shards, seq_len=7, seed=5)
    for _ in range(batches):
        loader.next_batch(4, 1, 2)
    jumped = GlobalLoader(shards, seq_len=7, seed=5)
    jumped.load_state_dict({"epoch": 0, "position": 4 * batches})
    assert jumped.state_dict() == loader.state_dict()
    assert np.array_equal(jumped.next_batch(4, 1, 2), loader.next_batch(4, 1, 2))
