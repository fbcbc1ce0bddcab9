"""Score-first TTT in phases: against a slow loop, causality, ranks, budgets, and that it learns."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pgolf.clock import Clock
from pgolf.data.stream import TokenStream
from pgolf.distributed import World
from pgolf.score import Score
from pgolf.ttt.adapted import Adapted
from pgolf.ttt.ledger import Ledger
from pgolf.ttt.score_first_phased import ScoreFirstPhasedTTT
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


def ttt_with(**changes: Any) -> ScoreFirstPhasedTTT:
    settings = {
        "lr": 0.1, "epochs": 2, "phases": 3, "chunk_tokens": CHUNK, "batch_seqs": 2,
        "seq_len": SEQ_LEN, "reserve_s": 0.0,
    }  # fmt: skip
    return ScoreFirstPhasedTTT(**{**settings, **changes})


def slow_phased(ttt: ScoreFirstPhasedTTT, model: nn.Module, stream: TokenStream) -> float:
    """Nats, window by window, each with the weights of the phase in which its first score lies."""
    ids, total = torch.from_numpy(stream.ids.astype(np.int64)), stream.num_tokens - 1
    num_chunks = math.ceil(total / CHUNK)
    ends = [num_chunks * phase // ttt.phases for phase in range(ttt.phases + 1)]
    nats = 0.0
    for begin, end in itertools.pairwise(ends):
        for start in range(0, total, STRIDE):
            skip = SEQ_LEN - STRIDE if start else 0
            if start + skip < total and begin * CHUNK <= start + skip < end * CHUNK:
                nats += window_nats(model, ids, start)
        if 0 < end < num_chunks and end > begin:
            slow_training(ttt, model, ids, end)
    return nats


def slow_training(ttt: ScoreFirstPhasedTTT, model: nn.Module, ids: torch.Tensor, end: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=ttt.lr, momentum=0.9)
    for chunk in range(end):
        optimizer.param_groups[0]["lr"] = ttt.lr * (1 + math.cos(math.pi * chunk / end)) / 2
        train_slowly(ttt, model, optimizer, ids, chunk)


@pytest.mark.parametrize(("num_tokens", "phases"), [(2, 4), (101, 4), (230, 2), (230, 4), (301, 3)])
def test_it_equals_a_slow_loop(num_tokens: int, phases: int) -> None:
    ttt, stream = ttt_with(lr=0.03, phases=phases), stream_of(num_tokens)
    slow, fast = tiny_recurrent().double(), tiny_recurrent().double()
    slow.recurrence(True)
    expected = slow_phased(ttt, slow, stream)
    score, _ = adapt_and_score(ttt, fast, stream)
    assert score.nats == pytest.approx(expected, rel=1e-6)
    for name, value in fast.state_dict().items():
        torch.testing.assert_close(value, slow.state_dict()[name], atol=1e-6, rtol=0)


def test_it_learns_from_what_it_has_scored() -> None:
    model, stream = tiny_recurrent(), stream_of(800)
    model.recurrence(True)
    plain = SLIDING.evaluate(model, stream, World())
    score, adapted = adapt_and_score(ttt_with(phases=4), model, stream)
    assert score.nats < 0.95 * plain.nats
    assert (score.tokens, score.raw_bytes) == (plain.tokens, plain.raw_bytes)
    assert adapted.eligible and adapted.adaptive and adapted.notes == []


def test_no_epochs_and_one_phase_are_the_plain_evaluation() -> None:
    for ttt in (ttt_with(epochs=0), ttt_with(phases=1), ttt_with(chunk_tokens=1000)):
        model, stream = tiny_recurrent(), stream_of()
        model.recurrence(True)
        before = weights(model)
        expected = SLIDING.evaluate(model, stream, World())
        score, adapted = adapt_and_score(ttt, model, stream)
        assert score.nats == pytest.approx(expected.nats, rel=1e-6) and not adapted.adaptive
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert "ttt.phases=3, chunks of 1,000 tokens" in adapted.notes[0]


@given(st.integers(1, 200), st.integers(1, 9))
def test_phases_are_equal_and_cover_all_chunks(num_chunks: int, phases: int) -> None:
    ends = ttt_with(phases=phases).phase_ends(num_chunks)
    sizes = np.diff([0, *ends])
    assert ends[-1] == num_chunks and len(ends) == min(phases, num_chunks)
    assert sizes.min() >= 1 and sizes.max() - sizes.min() <= 1


@pytest.fixture(scope="module")
def scores_of_the_text() -> torch.Tensor:
    return scores_of_positions(ttt_with(), tiny_recurrent(), stream_of(230), SLIDING)


# Phases end at positions 50 and 150.
@pytest.mark.parametrize("last", [1, 49, 50, 51, 97, 101, 149, 150, 151, 213])
def test_a_score_does_not_depend_on_later_tokens(
    last: int, scores_of_the_text: torch.Tensor
) -> None:
    text, first = changed_after(stream_of(230), last), scores_of_the_text
    other = scores_of_positions(ttt_with(), tiny_recurrent(), text, SLIDING)
    assert torch.equal(first[:last], other[:last])
    assert not torch.equal(first[last:], other[last:])


# -- budgets: a second a chunk to score, five to train; 10 chunks, phases end at 3 and 6 ------


def timed(limit_s: float, **settings: Any) -> tuple[TimedModel, Score, Adapted, float]:
    model = TimedModel()
    clock = Clock({"evaluate": limit_s}, now=lambda: model.now)
    ttt = ttt_with(epochs=1, batch_seqs=8, **settings)
    with clock.phase("final", "evaluate"):
        score, adapted = adapt_and_score(ttt, model, stream_of(501), clock=clock)
    return model, score, adapted, clock.seconds("final")


def test_with_time_every_phase_is_learned_whole() -> None:
    model, _, adapted, _ = timed(10000.0)
    assert model.num_trained == 3 + 6 and adapted.notes == []


def test_a_tiny_budget_scores_everything_unadapted_and_says_so() -> None:
    model, score, adapted, _ = timed(1.0)
    plain = tiny_recurrent()
    plain.recurrence(True)
    expected = SLIDING.evaluate(plain, stream_of(501), World())
    assert model.num_trained == 0 and not adapted.adaptive
    assert score.tokens == 500 and score.nats == pytest.approx(expected.nats, rel=1e-6)
    assert adapted.notes[0].startswith("Trained on 0 of 9 chunks")


@pytest.mark.parametrize("limit_s", [45.0, 55.0, 62.0, 70.0, 100.0])
@pytest.mark.parametrize("reserve_s", [0.0, 6.0])
def test_a_phase_ends_between_two_chunks_when_time_runs_out(
    limit_s: float, reserve_s: float
) -> None:
    model, score, adapted, used_s = timed(limit_s, reserve_s=reserve_s)
    everything_s = used_s + 5.0 * (9 - model.num_trained)
    assert score.tokens == 500
    # The first adaptation is a guess; all later ones are known to fit.
    assert used_s <= max(limit_s - reserve_s, everything_s - 8 * 5.0)
    assert model.num_trained == 9 or used_s + 2 * 5.0 + 0.1 * everything_s > limit_s - reserve_s
    assert bool(adapted.notes) == (model.num_trained < 9)


# -- ranks ----------------------------------------------------------------------------------


def _in_worker(world: World) -> tuple[list[float], dict[str, torch.Tensor]]:
    model = tiny_recurrent().double()
    ttt = ttt_with(lr=1e-3)  # training fast multiplies roundings by millions
    ledger = Ledger(model, stream_of(), SLIDING, world, part_tokens=ttt.chunk_tokens)
    ttt.score(model, ledger, world, Clock({}))
    return [score.nats for score in ledger.curve], weights(model)


@pytest.mark.slow
def test_two_workers_score_and_learn_like_one() -> None:
    curve, alone = _in_worker(World())
    results = run_in_two_workers(_in_worker)
    for found_curve, found in results:
        assert found_curve == pytest.approx(curve, rel=1e-7)
        for name, value in found.items():
            assert torch.equal(value, results[0][1][name]), name
            torch.testing.assert_close(value, alone[name], atol=1e-6, rtol=1e-6)
