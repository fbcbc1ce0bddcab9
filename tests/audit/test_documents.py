"""FLIP and SUM on methods that adapt document by document, in the order in which they score."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from pgolf.audit.finding import FAIL, PASS, Finding
from pgolf.audit.flip import Flip
from pgolf.audit.order import Order
from pgolf.audit.subject import ScoredSlice, Subject
from pgolf.audit.sum import Sum
from pgolf.auditing.document_scorer import DocumentScorer, scoring_order, short_documents
from pgolf.clock import Clock
from pgolf.distributed import World
from pgolf.errors import RunFailed
from pgolf.eval.standard import StandardEvaluator
from pgolf.ttt import phased_lora
from pgolf.ttt.adapted import Adapted
from pgolf.ttt.document_ledger import DocumentLedger
from pgolf.ttt.phased_lora import PhasedLoraTTT
from tests.model.tiny import tiny_recurrent

FLIP = Flip(slice_tokens=0, offsets=10, tolerance=1e-5, seed=0)
SUM = Sum(slice_tokens=0, tolerance=1e-4, score_tolerance=1e-4)
EVALUATOR = StandardEvaluator(seq_len=16, batch_seqs=2)
SETTINGS: dict[str, Any] = {
    "rank": 3, "lora_lr": 0.01, "lora_chunk_tokens": 5, "batch_docs": 2, "prefix_docs": 4,
    "phases": 2, "lr": 0.05, "chunk_tokens": 20, "batch_seqs": 2, "seq_len": 10, "reserve_s": 0.0,
}  # fmt: skip


def text() -> np.ndarray:
    """Six documents, the longest in the middle; each begins with token 0."""
    random = np.random.default_rng(3)
    parts = [np.append(0, random.integers(1, 61, size)) for size in (9, 17, 30, 21, 3, 12)]
    return np.concatenate(parts).astype(np.int64)


def model() -> Any:
    return tiny_recurrent().eval()


def probed(method: type[PhasedLoraTTT]) -> list[Finding]:
    ids = text()
    order = scoring_order(ids, method(**SETTINGS), EVALUATOR)
    part = ScoredSlice(
        "documents",
        lambda: DocumentScorer(model, EVALUATOR, method(**SETTINGS)),
        ids,
        (np.flatnonzero(np.diff(order.step)) + 2).tolist(),
        order=order,
    )
    about = Subject("scorer", Path("x"), slices=lambda num_tokens: [part])
    return [probe.check(about) for probe in (FLIP, SUM)]


def test_the_order_is_that_of_the_ledger() -> None:
    """Step and document of each position, as the rounds themselves go through the text."""
    ids, method = text(), PhasedLoraTTT(**SETTINGS)
    seen: list[np.ndarray] = []

    class Notes(DocumentLedger):
        def _seal(self, nll: Any, begins: Any, ends: Any, size: int, num_scored: int) -> Any:
            places = begins[:, None] + np.arange(size - num_scored, size)
            seen.append(places[places < ends[:, None]])
            return super()._seal(nll, begins, ends, size, num_scored)

    from pgolf.auditing.window_scorer import stream_of

    ledger = Notes(
        model(), stream_of(ids.tolist()), EVALUATOR, World(), order=method.documents, bos_id=0
    )
    with torch.no_grad():
        for _ in ledger.rounds():
            while ledger.score_next(cast(Any, ledger._model)) is not None:
                pass
    order = scoring_order(ids, method, EVALUATOR)
    for step, places in enumerate(seen):
        assert np.array_equal(np.flatnonzero(order.step == step), np.sort(places))
    assert len(seen) == order.step.max() + 1 and order.runs_back() is None
    assert len(set(order.document.tolist())) == 6
    assert order.step[28] == 0  # the longest document, which begins there, comes first


def test_what_a_prediction_may_know() -> None:
    order = Order(np.array([2, 3, 0, 1, 0]), np.array([1, 1, 0, 0, 2]))
    assert order.may_know(2).tolist() == [True, True, False, True, False]
    assert order.may_know(1).tolist() == [False] * 5
    assert Order.of_text(4).may_know(1).tolist() == [False, False, True, True]
    assert Order(np.array([1, 0]), np.array([0, 0])).runs_back() == 1


def test_phased_lora_passes_and_really_adapts() -> None:
    assert [finding.verdict for finding in probed(PhasedLoraTTT)] == [PASS, PASS]
    ids = text()
    rates = ({}, {"lora_lr": 0.0, "prefix_docs": 0})
    fed = []
    for rate in rates:
        scorer = DocumentScorer(model, EVALUATOR, PhasedLoraTTT(**{**SETTINGS, **rate}))
        scorer.begin(0)
        fed.append(scorer.feed(ids[1:]))
    apart = np.abs(fed[0].log_probs - fed[1].log_probs).max(1)
    order = scoring_order(ids, PhasedLoraTTT(**SETTINGS), EVALUATOR)
    assert apart[order.step == 0].max() < 1e-5  # nothing was learned yet
    assert apart[order.step > 0].min() > 1e-5
    with pytest.raises(RunFailed, match="one call"):
        scorer.feed(ids[1:])


class Peeks(PhasedLoraTTT):
    """Trains the model on the text of all documents before the first is scored."""

    def score(
        self, model: nn.Module, ledger: DocumentLedger, world: World, clock: Clock
    ) -> Adapted:
        ids = torch.from_numpy(ledger._stream.ids.astype(np.int64))
        with torch.no_grad():
            model.get_submodule("tok_emb").weight[ids[-6:]] *= 1.2
        return super().score(model, ledger, world, clock)


class ReadsItsDocument(PhasedLoraTTT):
    """Fits the adapters of a round to the tokens that its first document ends with."""

    def score_and_learn(self, ledger: DocumentLedger, adapters: Any) -> int:
        places = np.array(ledger._open.documents)  # type: ignore[union-attr]
        last = ledger._stream.ids[ledger._queue.ends[places[0]] - 1]
        with torch.no_grad():
            adapters.up_BQ += 0.001 * float(last)
        return super().score_and_learn(ledger, adapters)


class LearnsTheNextRound(PhasedLoraTTT):
    """A phase trains on documents that are not scored yet."""

    def chunks(self, text: torch.Tensor) -> list[torch.Tensor]:
        return super().chunks(torch.cat([text, self.later]))

    def score(
        self, model: nn.Module, ledger: DocumentLedger, world: World, clock: Clock
    ) -> Adapted:
        self.later = torch.from_numpy(ledger._stream.ids.astype(np.int64))
        return super().score(model, ledger, world, clock)


@pytest.mark.parametrize("method", [Peeks, ReadsItsDocument, LearnsTheNextRound])
def test_what_learns_before_its_score_is_refused(method: type[PhasedLoraTTT]) -> None:
    flip, total = probed(method)
    assert flip.verdict == FAIL and "not causal" in flip.summary
    assert flip.witness["log_prob"] != flip.witness["log_prob_after_change"]
    assert total.verdict == PASS


def test_documents_side_by_side_that_learn_from_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The chunk that a short document has first is scored beside a long one's, and knows it."""
    own = phased_lora.LoraAdapters.logits

    def mixed(self: Any, ids: torch.Tensor, last_n: int) -> torch.Tensor:
        logits = own(self, ids, last_n)
        if len(ids) == 1 or not ids[:, 0].eq(0).all() or ids.size(1) > 5:
            return logits
        return logits + 0.01 * logits.mean(0, keepdim=True) * float(ids[0, -1])

    monkeypatch.setattr(phased_lora.LoraAdapters, "logits", mixed)
    monkeypatch.setattr("pgolf.ttt.watch.Watch.probe", lambda *arguments: None)
    flip, _ = probed(PhasedLoraTTT)
    assert flip.verdict == FAIL


def test_a_ledger_that_scores_a_position_twice_is_refused() -> None:
    from pgolf.auditing.document_scorer import RecordingLedger
    from pgolf.auditing.window_scorer import stream_of

    ledger = RecordingLedger(
        model(), stream_of(text().tolist()), EVALUATOR, World(),
        order=PhasedLoraTTT(**SETTINGS).documents, bos_id=0,
    )  # fmt: skip
    with torch.no_grad():
        for _ in ledger.rounds():
            while ledger.score_next(cast(Any, ledger._model)) is not None:
                pass
    ledger.rows(61)
    ledger._kept.append(ledger._kept[0])
    with pytest.raises(RunFailed, match="twice"):
        ledger.rows(61)


def test_short_documents_have_different_lengths() -> None:
    ids = np.tile(np.append(0, np.arange(1, 80)), 9)
    found = short_documents(ids, 90, 6)
    starts = np.flatnonzero(found == 0)
    lengths = np.diff(np.append(starts, len(found)))
    assert len(starts) == 6 and len(set(lengths.tolist())) == 6 and len(found) <= 90
    few: Callable[[np.ndarray], np.ndarray] = lambda ids: short_documents(ids, 90, 6)  # noqa: E731
    assert len(few(np.array([0, 1, 2]))) == 3
