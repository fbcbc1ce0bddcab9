"""FLIP, SUM and DOCS on scorers: honest ones pass, each way to break a rule is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pgolf.audit.docs import Docs
from pgolf.audit.finding import FAIL, PASS, Finding
from pgolf.audit.flip import Flip
from pgolf.audit.scorer import Scorer, run_scorer
from pgolf.audit.subject import ScoredSlice, Subject
from pgolf.audit.sum import Sum
from pgolf.auditing.window_scorer import AdaptiveScorer, ArtifactScorer
from pgolf.clock import Clock
from pgolf.distributed import World
from pgolf.eval.sliding import SlidingEvaluator
from pgolf.ttt.adapted import Adapted
from pgolf.ttt.ledger import Ledger
from pgolf.ttt.score_first import ScoreFirstTTT
from tests.audit import scorers
from tests.model.tiny import tiny_recurrent

FLIP = Flip(slice_tokens=0, offsets=12, tolerance=1e-5, seed=0)
SUM = Sum(slice_tokens=0, tolerance=1e-4, score_tolerance=1e-4)
SLIDING = SlidingEvaluator(seq_len=16, stride=4, batch_seqs=5)
METHOD = ScoreFirstTTT(lr=0.1, chunk_tokens=24, batch_seqs=2, seq_len=16, reserve_s=0.0)


def text(size: int = 97, vocab: int = scorers.VOCAB) -> np.ndarray:
    """No length that a block divides; the first token does not come again."""
    ids = np.random.default_rng(1).integers(1, vocab, size)
    ids[0] = 0
    return ids


def subject(
    scorer: Callable[[], Scorer], ids: np.ndarray | None = None, borders: tuple[int, ...] = ()
) -> Subject:
    part = ScoredSlice("a scorer", scorer, text() if ids is None else ids, list(borders))
    return Subject("scorer", Path("somewhere"), slices=lambda num_tokens: [part])


@pytest.mark.parametrize("scorer", [scorers.Bigram, scorers.VectorsOnly, scorers.ByChunks])
def test_honest_scorers_pass(scorer: type[Any]) -> None:
    for probe in (FLIP, SUM):
        finding = probe.check(subject(scorer, borders=(10, 20, 30)))
        assert finding.verdict == PASS, finding
    assert FLIP.check(subject(scorer)).witness["largest_difference"] == 0.0


@pytest.mark.parametrize(
    "scorer",
    [
        *(scorers.AdaptThenScore, scorers.TwoPasses, scorers.WarmedUp, scorers.BlockMean),
        *(scorers.Slot, scorers.Gate),
    ],
)
def test_predictions_that_know_what_comes_are_refused(scorer: type[Any]) -> None:
    finding = FLIP.check(subject(scorer))
    assert finding.verdict == FAIL
    witness = finding.witness
    assert witness["position"] <= witness["changed_from"]
    assert witness["log_prob"] != witness["log_prob_after_change"]
    # They are distributions: only FLIP can see it.
    assert SUM.check(subject(scorer)).verdict == PASS


@pytest.mark.parametrize(
    "scorer",
    [
        *(scorers.BestOfTwo, scorers.LargerOfTwo, scorers.HashBuckets, scorers.ByteMixture),
        scorers.ShortAlphabet,
    ],
)
def test_what_is_no_distribution_is_refused(scorer: type[Any]) -> None:
    finding = SUM.check(subject(scorer))
    assert finding.verdict == FAIL and finding.witness
    assert FLIP.check(subject(scorer)).verdict == PASS


def test_the_witness_of_a_sum_is_right() -> None:
    finding = SUM.check(subject(scorers.LargerOfTwo))
    row = finding.witness["position"] - 1
    log_probs = run_scorer(scorers.LargerOfTwo(), text()).log_probs
    assert finding.witness["log_sum"] == pytest.approx(np.log(np.exp(log_probs[row]).sum()))


def test_places_are_beside_borders_and_elsewhere() -> None:
    part = ScoredSlice("x", scorers.Bigram, text(), [16, 32, 48, 64])
    places = FLIP.places(part)
    assert len(places) == 12 and {16, 15} <= set(places)
    assert len(set(places) - {15, 16, 31, 32, 47, 48, 63, 64}) >= 4
    assert FLIP.places(ScoredSlice("x", scorers.Bigram, text(4))) == [2, 3]


def test_docs_tells_packed_from_isolated() -> None:
    docs = Docs(slice_tokens=0, tolerance=1e-5)
    packed = docs.check(subject(lambda: ArtifactScorer(model(), SLIDING), text(70, 61)))
    assert packed.verdict == PASS and packed.witness["crosses"]
    isolated = docs.check(subject(lambda: ArtifactScorer(model(bos=0), SLIDING), text(70, 61)))
    assert isolated.verdict == PASS and not isolated.witness["crosses"]


# pgolf's own evaluation


def model(bos: int | None = None) -> Any:
    torch.manual_seed(0)
    found = tiny_recurrent()
    found.document_bos = bos
    found.recurrence(True)
    return found.eval()


def audited(scorer: Callable[[], Scorer], borders: tuple[int, ...] = (16, 24, 48)) -> list[Finding]:
    about = subject(scorer, text(vocab=61), borders)
    return [probe.check(about) for probe in (FLIP, SUM)]


def test_the_evaluation_of_an_artifact_passes() -> None:
    fixed = model()
    assert [f.verdict for f in audited(lambda: ArtifactScorer(fixed, SLIDING))] == [PASS, PASS]


def test_its_nats_are_those_of_the_evaluation() -> None:
    fixed, ids = model(), text(vocab=61)
    fed = run_scorer(ArtifactScorer(fixed, SLIDING), ids, [30, 61])
    from pgolf.data.stream import TokenStream

    stream = TokenStream(ids.astype(np.uint16), np.ones(len(ids), np.uint16))
    score = SLIDING.evaluate(fixed, stream, World())
    assert fed.nats is not None and fed.nats.sum() == pytest.approx(score.nats, rel=1e-6)


def test_a_method_that_scores_first_passes_and_really_adapts() -> None:
    def scorer() -> AdaptiveScorer:
        return AdaptiveScorer(model, SLIDING, METHOD)

    assert [f.verdict for f in audited(scorer)] == [PASS, PASS]
    ids = text(vocab=61)
    adapted, fixed = run_scorer(scorer(), ids), run_scorer(ArtifactScorer(model(), SLIDING), ids)
    assert np.array_equal(adapted.log_probs[:20], fixed.log_probs[:20])
    assert not np.allclose(adapted.log_probs[40:], fixed.log_probs[40:], atol=1e-3)


class Peeks(ScoreFirstTTT):
    """Trains on the text, which it takes from the ledger, before it is scored."""

    def score(self, model: nn.Module, ledger: Ledger, world: World, clock: Clock) -> Adapted:
        ids = torch.from_numpy(ledger._stream.ids.astype(np.int64))
        weight = model.get_submodule("tok_emb").weight
        with torch.no_grad():
            weight[ids.unique()] *= 1.5
        return super().score(model, ledger, world, clock)


def test_a_method_that_trains_on_what_it_will_score_is_refused() -> None:
    peeks = Peeks(lr=0.1, chunk_tokens=24, batch_seqs=2, seq_len=16, reserve_s=0.0)
    flip, _ = audited(lambda: AdaptiveScorer(model, SLIDING, peeks))
    assert flip.verdict == FAIL and "not causal" in flip.summary


class NotCausal(nn.Module):
    """A model whose positions see the mean of their whole window."""

    def __init__(self) -> None:
        super().__init__()
        self.model = model()

    def logits(self, ids: torch.Tensor, last_n: int | None = None) -> torch.Tensor:
        logits: torch.Tensor = self.model.logits(ids, last_n)
        mean = nn.functional.one_hot(ids, logits.size(-1)).float().mean(1, keepdim=True)
        return logits + mean

    def nll(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = self.logits(ids, targets.size(1))
        nll = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        return nll.view(targets.shape)


def test_a_model_that_mixes_a_window_is_refused() -> None:
    wrong = NotCausal()
    flip, total = audited(lambda: ArtifactScorer(wrong, SLIDING))
    assert flip.verdict == FAIL and total.verdict == PASS


class ScoresLess(nn.Module):
    """A model whose own loss is not that of its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.model = model()

    def logits(self, ids: torch.Tensor, last_n: int | None = None) -> torch.Tensor:
        logits: torch.Tensor = self.model.logits(ids, last_n)
        return logits

    def nll(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        nll: torch.Tensor = self.model.nll(ids, targets)
        return 0.9 * nll


def test_a_loss_that_is_not_of_its_logits_is_refused() -> None:
    wrong = ScoresLess()
    flip, total = audited(lambda: ArtifactScorer(wrong, SLIDING))
    assert flip.verdict == PASS and total.verdict == FAIL
    assert total.witness["booked_nats"] < total.witness["distribution_nats"]
