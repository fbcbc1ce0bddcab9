"""Standard and sliding evaluation against a slow loop over tokens; every token is scored once."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pgolf.data.stream import TokenStream
from pgolf.distributed import World
from pgolf.errors import UserError
from pgolf.eval.scoring import rank_share
from pgolf.eval.sliding import SlidingEvaluator
from pgolf.eval.standard import StandardEvaluator
from pgolf.score import Score
from tests.model.tiny import tiny_recurrent
from tests.two_workers import run_in_two_workers

SEQ_LEN, STRIDE = 16, 4
# Around one window, multiples of the stride and of the window, and lengths divisible by nothing.
LENGTHS = [2, 3, 15, 16, 17, 18, 20, 21, 33, 61, 64, 65, 66]


def stream_of(num_tokens: int) -> TokenStream:
    random = np.random.default_rng(num_tokens)
    ids = random.integers(0, 61, num_tokens).astype(np.uint16)
    return TokenStream(ids, random.integers(0, 9, num_tokens).astype(np.uint16))


def evaluators(batch_seqs: int = 3) -> list[StandardEvaluator | SlidingEvaluator]:
    return [
        StandardEvaluator(seq_len=SEQ_LEN, batch_seqs=batch_seqs),
        SlidingEvaluator(seq_len=SEQ_LEN, stride=STRIDE, batch_seqs=batch_seqs),
        SlidingEvaluator(seq_len=SEQ_LEN, stride=7, batch_seqs=batch_seqs),
        SlidingEvaluator(seq_len=SEQ_LEN, stride=1, batch_seqs=batch_seqs),
    ]


class UniformModel(nn.Module):
    """Gives every token 1/61."""

    def nll(self, ids_BT: Tensor, targets_BN: Tensor) -> Tensor:
        return torch.full(targets_BN.shape, math.log(61))


@pytest.mark.parametrize("num_tokens", LENGTHS)
def test_every_token_but_the_first_is_scored_once(num_tokens: int) -> None:
    stream = stream_of(num_tokens)
    for evaluator in evaluators():
        score = evaluator.evaluate(UniformModel(), stream, World())
        assert score.tokens == num_tokens - 1
        assert score.raw_bytes == stream.raw_bytes[1:].sum()
        assert score.nats == pytest.approx((num_tokens - 1) * math.log(61), rel=1e-6)


def slow_score(model: nn.Module, stream: TokenStream, stride: int) -> Score:
    """Token by token, each with the context that the definition gives it."""
    nats, ids = 0.0, torch.from_numpy(stream.ids.astype(np.int64))
    for position in range(len(ids) - 1):
        # Windows begin at multiples of the stride; a later one scores its last `stride` positions.
        window = max(0, math.ceil((position - SEQ_LEN + 1) / stride)) * stride
        with torch.no_grad():
            log_p = model.logits(ids[None, window : position + 1])[0, -1].double().log_softmax(-1)
        nats -= float(log_p[ids[position + 1]])
    return Score(nats, len(ids) - 1, int(stream.raw_bytes[1:].sum()))


@pytest.mark.parametrize("num_tokens", [3, 17, 33, 61])
def test_scores_equal_a_loop_over_tokens(num_tokens: int) -> None:
    # In float64, so that other shapes of the same products do not round otherwise.
    model, stream = tiny_recurrent().double(), stream_of(num_tokens)
    model.recurrence(True)
    for evaluator in evaluators():
        stride = getattr(evaluator, "stride", SEQ_LEN)
        found, expected = (
            evaluator.evaluate(model, stream, World()),
            slow_score(model, stream, stride),
        )
        assert found.nats == pytest.approx(expected.nats, rel=1e-6)
        assert (found.tokens, found.raw_bytes) == (expected.tokens, expected.raw_bytes)


@pytest.mark.parametrize("num_tokens", [17, 50, 65])
def test_sliding_by_whole_windows_is_standard(num_tokens: int) -> None:
    model, stream = tiny_recurrent(), stream_of(num_tokens)
    standard = StandardEvaluator(seq_len=SEQ_LEN, batch_seqs=2).evaluate(model, stream, World())
    sliding = SlidingEvaluator(seq_len=SEQ_LEN, stride=SEQ_LEN, batch_seqs=3)
    assert sliding.evaluate(model, stream, World()).nats == pytest.approx(standard.nats, rel=1e-9)


def test_batches_do_not_change_the_score() -> None:
    model, stream = tiny_recurrent(), stream_of(61)
    for one, many in zip(evaluators(1), evaluators(100), strict=True):
        a, b = one.evaluate(model, stream, World()), many.evaluate(model, stream, World())
        assert a.nats == pytest.approx(b.nats, rel=1e-7)


def test_the_model_comes_back_as_it_was() -> None:
    model = tiny_recurrent().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluators()[1].evaluate(model, stream_of(40), World())
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    ids = torch.ones(1, 5, dtype=torch.long)
    model(ids, ids).backward()  # no tensor of inference mode is left inside


@pytest.mark.parametrize("stride", [0, -1, SEQ_LEN + 1])
def test_a_stride_that_leaves_tokens_out_is_refused(stride: int) -> None:
    with pytest.raises(UserError, match=r"eval\.stride"):
        SlidingEvaluator(seq_len=SEQ_LEN, stride=stride, batch_seqs=1)


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_shares_of_ranks_are_even_and_complete(world_size: int) -> None:
    windows = np.arange(11)
    shares = [rank_share(windows, World(rank=r, world_size=world_size)) for r in range(world_size)]
    assert np.array_equal(np.concatenate(shares), windows)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def _evaluate_in_worker(world: World, num_tokens: int) -> list[tuple[float, int, int]]:
    model = tiny_recurrent()
    scores = [e.evaluate(model, stream_of(num_tokens), world) for e in evaluators()]
    return [(s.nats, s.tokens, s.raw_bytes) for s in scores]


@pytest.mark.slow
def test_two_workers_score_like_one() -> None:
    for num_tokens in (2, 61):
        alone = _evaluate_in_worker(World(), num_tokens)
        for result in run_in_two_workers(_evaluate_in_worker, num_tokens):
            for found, expected in zip(result, alone, strict=True):
                assert found[0] == pytest.approx(expected[0], rel=1e-7)
                assert found[1:] == expected[1:]
