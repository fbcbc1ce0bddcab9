"""Causal SLOT: the fit against references, causality, ranks, budgets, and that it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgolf.clock import Clock
from pgolf.data.stream import TokenStream
from pgolf.distributed import World
from pgolf.errors import RunFailed
from pgolf.ttt.ledger import Ledger
from pgolf.ttt.predictor import nll_of
from pgolf.ttt.slot_causal import BiasedModel, SlotCausalTTT
from tests.model.tiny import tiny_recurrent, weights
from tests.ttt.adaptive import CHUNK, SEQ_LEN, SLIDING, adapt_and_score, changed_after, stream_of
from tests.two_workers import run_in_two_workers


def ttt_with(**changes: Any) -> SlotCausalTTT:
    settings = {
        "chunk_tokens": CHUNK, "fit_tokens": 40, "l2": 0.01, "seq_len": SEQ_LEN, "reserve_s": 0.0,
    }  # fmt: skip
    return SlotCausalTTT(**{**settings, **changes})


def skewed(num_tokens: int = 230) -> TokenStream:
    """Few tokens are frequent, which a bias can say."""
    random = np.random.default_rng(1)
    ids = np.minimum(random.geometric(0.15, num_tokens), 60).astype(np.uint16)
    return TokenStream(ids, np.full(num_tokens, 3, np.uint16))


def ids_of(stream: TokenStream) -> Tensor:
    return torch.from_numpy(stream.ids.astype(np.int64))


class FixedLogits(nn.Module):
    """The same logits at each position."""

    def __init__(self, logits_V: Tensor) -> None:
        super().__init__()
        self.tok_emb, self.logits_V = nn.Embedding(len(logits_V), 1), logits_V

    def logits(self, ids_BT: Tensor, last_n: int | None = None) -> Tensor:
        return self.logits_V.expand(*ids_BT.shape, -1)[:, -(last_n or 0) :]


# -- the fit --------------------------------------------------------------------------------


def test_with_fixed_logits_the_fit_gives_the_frequencies() -> None:
    # Closed form: the softmax of logits + bias is the distribution of the targets.
    logits_V, targets = torch.tensor([1.0, -1.0, 0.5, 0.0]), [0, 1, 1, 2, 3, 3, 3, 0, 0, 1, 2, 3]
    biased = BiasedModel(FixedLogits(logits_V))
    ttt_with(fit_tokens=12, seq_len=4, l2=0.0).fit(biased, torch.tensor([0, *targets]), World())
    expected = torch.bincount(torch.tensor(targets)) / len(targets)
    found = (logits_V + biased.bias_V).softmax(-1)
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize("l2", [0.003, 0.1])
def test_the_fit_equals_a_long_gradient_descent(l2: float) -> None:
    model, scored = tiny_recurrent(), ids_of(stream_of(49))
    biased = BiasedModel(model)
    ttt_with(fit_tokens=48, l2=l2, iterations=100).fit(biased, scored, World())
    logits = torch.stack([
        model.logits(scored[None, first : first + SEQ_LEN])[0] for first in (0, 16, 32)
    ]).flatten(0, 1).double().detach()  # fmt: skip

    def objective(bias: Tensor) -> Tensor:
        return F.cross_entropy(logits + bias, scored[1:]) + l2 / 2 * bias.square().sum()

    bias = torch.zeros(61, dtype=torch.float64, requires_grad=True)
    for _ in range(3000):
        (gradient,) = torch.autograd.grad(objective(bias), bias)
        bias = (bias - 2.0 * gradient).detach().requires_grad_()
    torch.testing.assert_close(biased.bias_V.double(), bias, atol=1e-2, rtol=0)
    with torch.no_grad():
        assert float(objective(biased.bias_V.double()) - objective(bias)) < 1e-6


def test_a_fit_keeps_within_the_bound() -> None:
    biased = BiasedModel(tiny_recurrent())
    ttt_with(l2=0.0, bound=0.5).fit(biased, ids_of(stream_of(49)), World())
    assert biased.bias_V.abs().max() == 0.5 and biased.bias_V.grad is None


@pytest.mark.parametrize(("length", "first"), [(17, 0), (33, 0), (40, 7), (49, 8), (100, 59)])
def test_a_fit_is_on_the_last_scored_tokens(length: int, first: int) -> None:
    # Tokens are their own positions: whole windows of 16 at the end, of which the last 40 count.
    scored = torch.arange(length)
    model = FixedLogits(torch.zeros(length))
    logits_NV, targets_N = ttt_with().scored_logits(model, scored, World())
    assert targets_N.tolist() == list(range(first + 1, length))
    assert logits_NV.shape == (len(targets_N), length)


# -- the score ------------------------------------------------------------------------------


def slow_slot(ttt: SlotCausalTTT, model: nn.Module, stream: TokenStream) -> Tensor:
    """Nats of each position: those of the plain scores, with the bias of its window's part."""
    ids, total = ids_of(stream), stream.num_tokens - 1
    windows, biased, nats = SLIDING.windows(total), BiasedModel(model), []
    part = 0
    for start, scored_from in zip(windows.starts, windows.scored_from, strict=True):
        if scored_from // CHUNK > part:
            part = scored_from // CHUNK
            ttt.fit(biased, ids[: part * CHUNK + 1][-3 * SEQ_LEN - 1 :], World())
        last = min(start + SEQ_LEN, total)
        with torch.no_grad():
            log_p = (model.logits(ids[None, start:last])[0] + biased.bias_V).log_softmax(-1)
        found = -log_p.gather(1, ids[start + 1 : last + 1, None])[:, 0]
        nats.append(found[scored_from - start :])
    return torch.cat(nats)


def scores_of_positions(stream: TokenStream, **changes: Any) -> Tensor:
    """Nats of each position, taken where the ledger computes them."""
    found: list[Tensor] = []

    def recorded(*arguments: Any) -> Tensor:
        nll = nll_of(*arguments)
        found.append(nll.flatten().clone())
        return nll

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pgolf.ttt.ledger.nll_of", recorded)
        score, adapted = adapt_and_score(ttt_with(**changes), tiny_recurrent(), stream)
    assert adapted.adaptive
    values = torch.cat(found)[: stream.num_tokens - 1]  # the last window may reach beyond
    assert float(values.double().sum()) == pytest.approx(score.nats, rel=1e-6)
    return values


@pytest.mark.parametrize("num_tokens", [52, 101, 151, 230])
def test_it_equals_a_slow_loop(num_tokens: int) -> None:
    model, stream = tiny_recurrent(), skewed(num_tokens)
    model.recurrence(True)
    expected = slow_slot(ttt_with(), model, stream)
    torch.testing.assert_close(scores_of_positions(stream), expected, atol=1e-4, rtol=1e-4)


def test_it_learns_from_what_it_has_scored_and_leaves_the_weights() -> None:
    model, stream = tiny_recurrent(), skewed(800)
    model.recurrence(True)
    before, plain = weights(model), SLIDING.evaluate(model, stream, World())
    score, adapted = adapt_and_score(ttt_with(fit_tokens=400), model, stream)
    assert score.nats < 0.9 * plain.nats
    assert (score.tokens, score.raw_bytes) == (plain.tokens, plain.raw_bytes)
    assert adapted.eligible and adapted.adaptive and adapted.notes == []
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_one_chunk_is_the_plain_evaluation() -> None:
    model, stream = tiny_recurrent(), stream_of()
    model.recurrence(True)
    expected = SLIDING.evaluate(model, stream, World())
    score, adapted = adapt_and_score(ttt_with(chunk_tokens=1000), model, stream)
    assert score.nats == pytest.approx(expected.nats, rel=1e-6) and not adapted.adaptive
    assert "not longer than one chunk of 1,000 tokens" in adapted.notes[0]


@pytest.fixture(scope="module")
def scores_of_the_text() -> Tensor:
    return scores_of_positions(skewed())


@pytest.mark.parametrize("last", [1, 16, 49, 50, 51, 97, 100, 101, 213])
def test_a_score_does_not_depend_on_later_tokens(last: int, scores_of_the_text: Tensor) -> None:
    first, other = scores_of_the_text, scores_of_positions(changed_after(skewed(), last))
    # Position p is scored by token p + 1: with tokens up to `last`, `last` positions.
    assert torch.equal(first[:last], other[:last])
    assert not torch.equal(first[last:], other[last:])


def test_a_short_budget_scores_the_rest_with_the_last_bias() -> None:
    now = [0.0]

    class Timed(SlotCausalTTT):
        def fit(self, *arguments: Any) -> None:
            now[0] += 5.0
            super().fit(*arguments)

    settings = {"fit_tokens": 40, "l2": 0.01, "seq_len": SEQ_LEN, "reserve_s": 3.0}
    clock = Clock({"evaluate": 14.0}, now=lambda: now[0])
    with clock.phase("final", "evaluate"):
        score, adapted = adapt_and_score(
            Timed(chunk_tokens=CHUNK, **settings), tiny_recurrent(), skewed(501), clock=clock
        )
    assert score.tokens == 500 and adapted.adaptive and now[0] == 10.0
    assert adapted.notes[0].startswith("The bias was fitted after 2 of 9 chunks")


# -- cheating -------------------------------------------------------------------------------


class LearnsWhileAsked(BiasedModel):
    """Raises the bias of the tokens that pass by."""

    def logits(self, ids_BT: Tensor, last_n: int | None = None) -> Tensor:
        self.bias_V.data = self.bias_V + torch.bincount(ids_BT.flatten(), minlength=61)
        return super().logits(ids_BT, last_n)


def test_a_predictor_that_learns_while_it_is_asked_fails() -> None:
    model = tiny_recurrent()
    ledger = Ledger(model, stream_of(), SLIDING, World(), part_tokens=CHUNK)
    with pytest.raises(RunFailed, match="weights changed while it scored"):
        ledger.score_next(LearnsWhileAsked(model))


def test_a_predictor_cannot_claim_more_than_a_distribution() -> None:
    class Boasts:
        def logits(self, ids_BT: Tensor, last_n: int) -> Tensor:
            return torch.full((len(ids_BT), last_n, 61), 1e4)

    ledger = Ledger(tiny_recurrent(), stream_of(51), SLIDING, World(), part_tokens=CHUNK)
    ledger.score_next(Boasts())
    assert ledger.finish().nats == pytest.approx(50 * np.log(61), rel=1e-5)


def test_a_score_that_is_not_a_number_is_refused() -> None:
    class Broken:
        def logits(self, ids_BT: Tensor, last_n: int) -> Tensor:
            return torch.full((len(ids_BT), last_n, 61), torch.inf)

    ledger = Ledger(tiny_recurrent(), stream_of(51), SLIDING, World(), part_tokens=CHUNK)
    with pytest.raises(RunFailed, match=r"nats of a part are nan.*ttt.lr"):
        ledger.score_next(Broken())


# -- ranks ----------------------------------------------------------------------------------


def _in_worker(world: World) -> list[float]:
    ledger = Ledger(tiny_recurrent(), skewed(), SLIDING, world, part_tokens=CHUNK)
    ttt_with().score(tiny_recurrent(), ledger, world, Clock({}))
    return [score.nats for score in ledger.curve]


@pytest.mark.slow
def test_two_workers_score_like_one() -> None:
    expected = _in_worker(World())
    for found in run_in_two_workers(_in_worker):
        assert found == pytest.approx(expected, rel=1e-6)
