"""Score-first TTT: against a slow loop, causality, ranks, budgets, and that it learns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from pgolf.clock import Clock
from pgolf.config import compose
from pgolf.data.stream import TokenStream
from pgolf.distributed import World
from pgolf.score import Score
from pgolf.ttt.adapted import Adapted
from pgolf.ttt.gradients import sum_gradients
from pgolf.ttt.ledger import Ledger
from pgolf.ttt.score_first import ChunkTrainer, ScoreFirstTTT
from tests.model.tiny import tiny_recurrent, weights
from tests.ttt.adaptive import (
    CHUNK,
    SEQ_LEN,
    SLIDING,
    STRIDE,
    TimedModel,
    adapt_and_score,
    changed_after,
    scores_of_positions,
    stream_of,
    train_slowly,
    window_nats,
)
from tests.two_workers import run_in_two_workers


def ttt_with(**changes: Any) -> ScoreFirstTTT:
    settings = {
        "lr": 0.1, "epochs": 2, "chunk_tokens": CHUNK, "batch_seqs": 2, "seq_len": SEQ_LEN,
        "reserve_s": 0.0,
    }  # fmt: skip
    return ScoreFirstTTT(**{**settings, **changes})


def slow_score_first(ttt: ScoreFirstTTT, model: nn.Module, stream: TokenStream) -> float:
    """Nats, as PR #1493 describes it, window by window."""
    ids = torch.from_numpy(stream.ids.astype(np.int64))
    total, context = len(ids) - 1, SEQ_LEN - STRIDE
    num_chunks = math.ceil(total / CHUNK)
    of_chunk: dict[int, list[int]] = {}
    for start in range(0, total, STRIDE):
        if start == 0 or start + context < total:
            of_chunk.setdefault((start + (context if start else 0)) // CHUNK, []).append(start)
    optimizer = torch.optim.SGD(model.parameters(), lr=ttt.lr, momentum=0.9)
    nats = 0.0
    for chunk in range(num_chunks):
        nats += sum(window_nats(model, ids, start) for start in of_chunk.get(chunk, []))
        if chunk == num_chunks - 1:
            break
        optimizer.param_groups[0]["lr"] = (
            ttt.lr * (1 + math.cos(math.pi * chunk / (num_chunks - 1))) / 2
        )
        train_slowly(ttt, model, optimizer, ids, chunk)
    return nats


@pytest.mark.parametrize("num_tokens", [2, 17, 52, 101, 151, 230])
def test_it_equals_a_slow_loop(num_tokens: int) -> None:
    stream, slow, fast = stream_of(num_tokens), tiny_recurrent(), tiny_recurrent()
    slow.recurrence(True)
    expected = slow_score_first(ttt_with(), slow, stream)
    score, _ = adapt_and_score(ttt_with(), fast, stream)
    assert score.nats == pytest.approx(expected, rel=2e-6)
    for name, value in fast.state_dict().items():
        torch.testing.assert_close(value, slow.state_dict()[name], atol=2e-5, rtol=0)


def test_it_learns_from_what_it_has_scored() -> None:
    model, stream = tiny_recurrent(), stream_of(800)
    model.recurrence(True)
    plain = SLIDING.evaluate(model, stream, World())
    score, adapted = adapt_and_score(ttt_with(), model, stream)
    assert score.nats < 0.95 * plain.nats
    assert (score.tokens, score.raw_bytes) == (plain.tokens, plain.raw_bytes)
    assert adapted.eligible and adapted.adaptive and adapted.notes == []


def test_no_epochs_and_one_chunk_are_the_plain_evaluation() -> None:
    for ttt in (ttt_with(epochs=0), ttt_with(chunk_tokens=1000)):
        model, stream = tiny_recurrent(), stream_of()
        model.recurrence(True)
        before = weights(model)
        expected = SLIDING.evaluate(model, stream, World())
        score, adapted = adapt_and_score(ttt, model, stream)
        assert score.nats == pytest.approx(expected.nats, rel=1e-6) and not adapted.adaptive
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert "not longer than one chunk of 1,000 tokens" in adapted.notes[0]


# -- causality ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scores_of_the_text() -> torch.Tensor:
    return scores_of_positions(ttt_with(), tiny_recurrent(), stream_of(230), SLIDING)


# Around borders of windows and chunks, and a position divisible by nothing.
@pytest.mark.parametrize("last", [1, 16, 49, 50, 51, 97, 100, 101, 213])
def test_a_score_does_not_depend_on_later_tokens(
    last: int, scores_of_the_text: torch.Tensor
) -> None:
    stream, first = stream_of(230), scores_of_the_text
    other = scores_of_positions(ttt_with(), tiny_recurrent(), changed_after(stream, last), SLIDING)
    # Position p is scored by token p + 1: with tokens up to `last`, `last` positions.
    assert torch.equal(first[:last], other[:last])
    assert not torch.equal(first[last:], other[last:])


@pytest.mark.slow
def test_a_score_does_not_depend_on_later_tokens_at_nano_sizes() -> None:
    config = compose(["scale=nano", "ttt=score_first", "scale.ttt_chunk_tokens=512"])
    ttt, evaluator = instantiate(config["ttt"]), instantiate(config["eval"])
    stream, last, found = stream_of(1300), 900, []  # in the second chunk
    for text in (stream, changed_after(stream, last)):
        torch.manual_seed(0)
        model = instantiate(config["model"])
        nn.init.normal_(model.blocks[0].mlp.proj.weight, std=0.02)  # they begin as zero
        found.append(scores_of_positions(ttt, model, text, evaluator))
    assert torch.equal(found[0][:last], found[1][:last])
    assert not torch.equal(found[0][last:], found[1][last:])


# -- budgets --------------------------------------------------------------------------------


def timed(limit_s: float | None, **settings: Any) -> tuple[TimedModel, Score, Adapted, float]:
    model = TimedModel()
    limits = {} if limit_s is None else {"evaluate": limit_s}
    clock = Clock(limits, now=lambda: model.now)
    # Batches as large as a chunk: a step of training an epoch.
    ttt = ttt_with(epochs=1, batch_seqs=8, **settings)
    with clock.phase("final", "evaluate"):
        score, adapted = adapt_and_score(ttt, model, stream_of(501), clock=clock)
    return model, score, adapted, clock.seconds("final")


def test_without_a_limit_every_chunk_but_the_last_is_learned() -> None:
    model, _, adapted, used_s = timed(None)
    assert used_s == 75.0
    assert model.num_trained == 9 and adapted.notes == []


def test_a_tiny_budget_scores_everything_unadapted_and_says_so() -> None:
    model, score, adapted, _ = timed(1.0)
    plain = tiny_recurrent()
    plain.recurrence(True)
    expected = SLIDING.evaluate(plain, stream_of(501), World())
    assert model.num_trained == 0 and not adapted.adaptive
    assert score.tokens == 500 and score.nats == pytest.approx(expected.nats, rel=1e-6)
    assert adapted.notes[0].startswith("Adapted on 0 of 9 chunks, because the evaluation budget")


@pytest.mark.parametrize("limit_s", [35.0, 50.0, 70.0, 100.0])
@pytest.mark.parametrize("reserve_s", [0.0, 6.0])
def test_a_short_budget_is_kept_and_used(limit_s: float, reserve_s: float) -> None:
    model, score, adapted, used_s = timed(limit_s, reserve_s=reserve_s)
    everything_s = 75.0  # without a limit
    assert score.tokens == 500
    # The first adaptation is a guess; all later ones are known to fit.
    assert used_s <= max(limit_s - reserve_s, everything_s - 8 * 5.0)
    assert model.num_trained == 9 or used_s + 2 * 5.0 + 0.1 * everything_s > limit_s - reserve_s
    assert bool(adapted.notes) == (model.num_trained < 9)


# -- ranks ----------------------------------------------------------------------------------


def _in_worker(world: World) -> tuple[list[tuple[float, int, int]], dict[str, torch.Tensor]]:
    model = tiny_recurrent().double()  # training this fast multiplies roundings by thousands
    # Three sequences a chunk: of a step with one, the first of two ranks has none.
    ttt = ttt_with(lr=0.02)
    ledger = Ledger(model, stream_of(), SLIDING, world, part_tokens=ttt.chunk_tokens)
    ttt.score(model, ledger, world, Clock({}))
    return [(s.nats, s.tokens, s.raw_bytes) for s in ledger.curve], weights(model)


@pytest.mark.slow
def test_two_workers_score_and_learn_like_one() -> None:
    curve, alone = _in_worker(World())
    results = run_in_two_workers(_in_worker)
    for found_curve, found in results:
        for score, expected in zip(found_curve, curve, strict=True):
            assert score[0] == pytest.approx(expected[0], rel=1e-7)
            assert score[1:] == expected[1:]
        for name, value in found.items():
            assert torch.equal(value, results[0][1][name]), name
            torch.testing.assert_close(value, alone[name], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_shares_of_the_gradient_add_up_to_the_batchs(world_size: int) -> None:
    ids = torch.from_numpy(stream_of(49).ids.astype(np.int64))
    ids_BT, targets_BT = ids[:-1].view(3, -1), ids[1:].view(3, -1)
    model = tiny_recurrent()
    ttt = ttt_with()
    ChunkTrainer(ttt, model, World()).add_gradients(ids_BT, targets_BT)
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    for rank in range(world_size):
        world = World(rank=rank, world_size=world_size)
        ChunkTrainer(ttt, model, world).add_gradients(ids_BT, targets_BT)
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-4)


class _Echo(World):
    """Two ranks, the other of which has the same gradients."""

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.mul_(2.0)


def test_sums_keep_each_gradients_dtype_and_place() -> None:
    parameters = [nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(4).bfloat16())]
    unused = nn.Parameter(torch.ones(5))
    before = [torch.full_like(p, 1.5) for p in parameters]
    for parameter, gradient in zip(parameters, before, strict=True):
        parameter.grad = gradient
    sum_gradients([*parameters, unused], _Echo(world_size=2))
    for parameter, gradient in zip(parameters, before, strict=True):
        assert parameter.grad is gradient and gradient.eq(3.0).all()
    assert unused.grad is not None and unused.grad.eq(0.0).all()


def test_a_warm_up_leaves_no_trace() -> None:
    model = tiny_recurrent()
    before, state = weights(model), torch.get_rng_state()
    ChunkTrainer(ttt_with(), model, World()).warm_up()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
