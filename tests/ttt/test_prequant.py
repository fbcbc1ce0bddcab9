"""Pre-quantization TTT: what is frozen, schedule, chunks, averaging, and that the loss falls."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pgolf.clock import Clock
from pgolf.data.stream import TokenStream
from pgolf.distributed import World
from pgolf.errors import UserError
from pgolf.eval.standard import StandardEvaluator
from pgolf.events import EventLog, read_events
from pgolf.score import Score
from pgolf.ttt.adapted import Adapted
from pgolf.ttt.prequant import PreQuantTTT
from tests.model.tiny import tiny_recurrent, weights
from tests.two_workers import run_in_two_workers

SEQ_LEN = 16


def ttt_with(**changes: Any) -> PreQuantTTT:
    settings = {"epochs": 3, "lr": 3e-3, "chunk_tokens": 50, "batch_seqs": 2, "seq_len": SEQ_LEN}
    return PreQuantTTT(**{**settings, **changes})


def stream_of(num_tokens: int = 200) -> TokenStream:
    ids = np.random.default_rng(0).integers(0, 61, num_tokens).astype(np.uint16)
    return TokenStream(ids, np.ones(num_tokens, np.uint16))


def adapt(
    ttt: PreQuantTTT,
    model: nn.Module,
    world: World | None = None,
    events: EventLog | None = None,
    num_tokens: int = 200,
) -> Adapted:
    world, stream = world or World(), stream_of(num_tokens)

    def evaluate(model: nn.Module) -> Score:
        return StandardEvaluator(seq_len=SEQ_LEN, batch_seqs=4).evaluate(model, stream, world)

    return ttt.adapt(model, stream, world, Clock({}), events or EventLog(None), evaluate)


def test_frozen_weights_stay_and_the_loss_falls() -> None:
    model = tiny_recurrent()
    before = weights(model)
    adapted = adapt(ttt_with(epochs=6, freeze_blocks=2), model)
    losses = [row["train_loss"] for row in adapted.per_epoch]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.95 * losses[0]
    for name, value in model.state_dict().items():
        frozen = name.startswith(("tok_emb.", "blocks.0.", "blocks.1."))
        assert torch.equal(value, before[name]) == frozen, name
    assert all(p.requires_grad for p in model.parameters())
    assert model.recurrence_is_on


def test_it_says_why_it_is_not_eligible_and_is_so_on_training_text() -> None:
    adapted = adapt(ttt_with(epochs=1), tiny_recurrent())
    assert not adapted.eligible and "condition 3" in adapted.reason and not adapted.notes
    adapted = adapt(ttt_with(epochs=1, source="train"), tiny_recurrent())
    assert adapted.eligible and not adapted.adaptive
    assert "200 tokens of training text" in adapted.notes[0]


@pytest.mark.parametrize("freeze_blocks", [0, 1, 5])
def test_as_many_first_blocks_are_frozen_as_it_says(freeze_blocks: int) -> None:
    model = tiny_recurrent()
    before = weights(model)
    adapt(ttt_with(epochs=1, freeze_blocks=freeze_blocks), model)
    same = {name for name, value in weights(model).items() if torch.equal(value, before[name])}
    first = tuple(f"blocks.{i}." for i in range(freeze_blocks))
    assert same == {name for name in before if name.startswith(("tok_emb.", *first))}


def slow_adaptation(ttt: PreQuantTTT, model: nn.Module, stream: TokenStream) -> None:
    """One rank's training, a sequence at a time."""
    ids = torch.from_numpy(stream.ids.astype(np.int64))
    model.recurrence(True)
    frozen = ("tok_emb.", "blocks.0.", "blocks.1.")
    trained = [p for name, p in model.named_parameters() if not name.startswith(frozen)]
    optimizer = torch.optim.AdamW(trained, weight_decay=ttt.weight_decay)
    for epoch in range(ttt.epochs):
        cosine = (1 + math.cos(math.pi * epoch / ttt.epochs)) / 2
        optimizer.param_groups[0]["lr"] = ttt.lr * (0.1 + 0.9 * cosine)
        for first, count in ttt.steps(stream.num_tokens - 1, World()):
            for row in range(count):
                begin = first + row * SEQ_LEN
                text = ids[None, begin : begin + SEQ_LEN + 1]
                (model(text[:, :-1], text[:, 1:]) / count).backward()
            nn.utils.clip_grad_norm_(trained, ttt.grad_clip_norm)
            optimizer.step()
            model.zero_grad()


@pytest.mark.parametrize("sync", ["epoch", "step"])
@pytest.mark.parametrize("changes", [{}, {"epochs": 1, "weight_decay": 0.3, "lr": 1e-2}])
def test_it_equals_a_slow_loop(sync: str, changes: dict[str, Any]) -> None:
    ttt = ttt_with(sync=sync, **changes)
    slow, fast = tiny_recurrent().double(), tiny_recurrent().double()
    slow_adaptation(ttt, slow, stream_of())
    adapt(ttt, fast)
    for name, value in fast.state_dict().items():
        torch.testing.assert_close(value, slow.state_dict()[name], atol=1e-6, rtol=0)


def test_no_epochs_change_nothing_and_stay_eligible() -> None:
    model = tiny_recurrent()
    before = weights(model)
    adapted = adapt(ttt_with(epochs=0), model)
    assert adapted.eligible and adapted.per_epoch == []
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_learning_rate_equals_torchs_cosine_annealing() -> None:
    ttt = ttt_with(epochs=7, lr=0.1, min_lr_ratio=0.2)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=7, eta_min=0.02)
    for epoch in range(7):
        assert ttt.epoch_lr(epoch) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_train_on_each_whole_sequence_of_their_chunks_once(world_size: int) -> None:
    ttt, num_targets = ttt_with(chunk_tokens=50), 199
    seen = []
    for rank in range(world_size):
        for first, count in ttt.steps(num_targets, World(rank=rank, world_size=world_size)):
            assert 1 <= count <= 2
            assert (first // 50) % world_size == rank
            seen += [first + i * SEQ_LEN for i in range(count)]
    # Chunks at 0, 50, 100 and 150 hold three whole sequences of 16 each; the last has 49 targets.
    expected = [chunk + i * SEQ_LEN for chunk in (0, 50, 100, 150) for i in range(3)]
    assert sorted(seen) == expected


def test_diagnostics_and_events_come_when_asked(tmp_path: Path) -> None:
    events = EventLog(tmp_path / "events.jsonl")
    adapted = adapt(ttt_with(epochs=5, diagnostic_every=2), tiny_recurrent(), events=events)
    assert ["bpb" in row for row in adapted.per_epoch] == [False, True, False, True, False]
    rows = list(read_events(tmp_path / "events.jsonl"))
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[1]["val/bpb"] == adapted.per_epoch[1]["bpb"]
    assert math.isfinite(rows[0]["train/loss"])


def test_without_diagnostics_nothing_is_evaluated() -> None:
    def evaluate(model: nn.Module) -> Score:
        raise AssertionError("asked")

    arguments = (tiny_recurrent(), stream_of(), World(), Clock({}), EventLog(None), evaluate)
    adapted = ttt_with(epochs=2, diagnostic_every=0).adapt(*arguments)
    assert len(adapted.per_epoch) == 2


def test_ema_over_epochs_is_the_average_of_the_weights_after_each() -> None:
    decay, after = 0.7, []
    for epochs in (1, 2, 3):  # the cosine depends on the number of epochs, so it is made flat
        model = tiny_recurrent()
        adapt(ttt_with(epochs=epochs, min_lr_ratio=1.0), model)
        after.append(weights(model))
    averaged = tiny_recurrent()
    adapt(ttt_with(min_lr_ratio=1.0, ema_decay=decay), averaged)
    for name, value in averaged.state_dict().items():
        expected = after[0][name]
        for later in after[1:]:
            expected = decay * expected + (1 - decay) * later[name]
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=0)


def test_text_shorter_than_a_sequence_is_refused() -> None:
    with pytest.raises(UserError, match=r"ttt\.seq_len=16"):
        adapt(ttt_with(), tiny_recurrent(), num_tokens=10)


def _adapt_in_worker(world: World) -> dict[str, torch.Tensor]:
    model = tiny_recurrent()
    adapt(ttt_with(epochs=1), model, world)
    return weights(model)


def _share_steps_in_worker(world: World) -> tuple[list[float], dict[str, torch.Tensor]]:
    model = tiny_recurrent().double()  # AdamW makes steps of roundings where gradients are tiny
    # Batches of two sequences and of one: of a step with one, the first of two ranks has none.
    adapted = adapt(ttt_with(sync="step"), model, world)
    return [row["train_loss"] for row in adapted.per_epoch], weights(model)


@pytest.mark.slow
def test_two_workers_that_share_steps_end_like_one() -> None:
    losses, alone = _share_steps_in_worker(World())
    for found_losses, found in run_in_two_workers(_share_steps_in_worker):
        assert found_losses == pytest.approx(losses, rel=1e-6)
        for name, value in found.items():
            torch.testing.assert_close(value, alone[name], atol=1e-6, rtol=0)


class _OneRank(World):
    """A rank that goes through its own chunks and does not average."""

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.mul_(self.world_size)


@pytest.mark.slow
def test_two_workers_end_with_the_mean_of_what_each_learned() -> None:
    alone = [_adapt_in_worker(_OneRank(rank=rank, world_size=2)) for rank in range(2)]
    first, second = run_in_two_workers(_adapt_in_worker)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        mean = (alone[0][name] + alone[1][name]) / 2
        torch.testing.assert_close(value, mean, atol=1e-6, rtol=0)
        assert name.startswith(("tok_emb.", "blocks.0.", "blocks.1.")) or not torch.equal(
            alone[0][name], alone[1][name]
        )
