"""Phased LoRA: against a slow loop, causality, ranks, budgets, and that it learns."""

from __future__ import annotations

import functools
import math
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pgolf.clock import Clock
from pgolf.data.stream import TokenStream
from pgolf.distributed import World
from pgolf.eval.standard import StandardEvaluator
from pgolf.score import Score
from pgolf.ttt import document_ledger
from pgolf.ttt.adapted import Adapted
from pgolf.ttt.adapters import LoraAdapters, find_sites
from pgolf.ttt.document_ledger import DocumentLedger
from pgolf.ttt.documents import Queue
from pgolf.ttt.pace import Pace
from pgolf.ttt.phased_lora import ORDER_NOTE, PhasedLoraTTT
from tests.model.tiny import tiny_recurrent, weights
from tests.two_workers import run_in_two_workers

BOS, SEQ_LEN = 0, 16
EVALUATOR = StandardEvaluator(seq_len=SEQ_LEN, batch_seqs=2)
# Faster learning multiplies roundings, by 50 a step for lora_lr=0.01.
SETTINGS = {
    "rank": 3, "alpha_per_rank": 1.8, "lora_lr": 0.001, "lora_weight_decay": 0.5,
    "lora_chunk_tokens": 5, "batch_docs": 4, "seed": 7, "prefix_docs": 7, "phases": 2, "lr": 0.01,
    "chunk_tokens": 50, "batch_seqs": 2, "seq_len": SEQ_LEN, "reserve_s": 0.0,
}  # fmt: skip


def ttt_with(**changes: Any) -> PhasedLoraTTT:
    return PhasedLoraTTT(**{**SETTINGS, **changes})


def stream_of(num_tokens: int = 300, num_docs: int = 10) -> TokenStream:
    """A little grammar, which can be learned, in documents of different lengths."""
    random = np.random.default_rng(num_tokens)
    ids = [1]
    for _ in range(num_tokens - 1):
        ids.append(
            (5 * ids[-1] + 3) % 60 + 1 if random.random() < 0.8 else int(random.integers(1, 61))
        )
    begins = [0, *random.choice(np.arange(1, num_tokens), num_docs - 1, replace=False)]
    text = np.array(ids, np.uint16)
    text[begins] = BOS
    return TokenStream(text, np.full(num_tokens, 3, np.uint16))


def tiny() -> Any:
    return tiny_recurrent().double()


def ledger_of(
    ttt: PhasedLoraTTT, model: nn.Module, stream: TokenStream, world: World | None = None
) -> DocumentLedger:
    arguments = model, stream, EVALUATOR, world or World()
    return DocumentLedger(*arguments, order=ttt.documents, bos_id=BOS)


def score(
    ttt: PhasedLoraTTT, model: nn.Module, stream: TokenStream, clock: Clock | None = None
) -> tuple[Score, Adapted]:
    ledger = ledger_of(ttt, model, stream)
    adapted = ttt.score(model, ledger, World(), clock or Clock({}))
    return ledger.finish(), adapted


def unadapted(model: Any, stream: TokenStream) -> Score:
    model.recurrence(True)
    ledger = ledger_of(ttt_with(), model, stream)
    ledger.score_unadapted()
    return ledger.finish()


# -- against a slow loop --------------------------------------------------------------------


def slow_document(
    ttt: PhasedLoraTTT, model: Any, ids: Tensor, num_scored: int, place: int
) -> float:
    """One document by itself, AdamW written out; ids has the last target, too."""
    adapters = LoraAdapters(
        model, find_sites(model, World()), [7 + place], rank=3, scale=ttt.alpha_per_rank
    )
    nats, chunk = 0.0, ttt.documents.chunk_tokens
    squares = [torch.zeros_like(p) for p in adapters.trained()]
    for step, end in enumerate(range(chunk, num_scored + chunk, chunk), start=1):
        window = ids[max(0, end - SEQ_LEN) : min(end, num_scored)]
        count = min(end, num_scored) - (end - chunk)
        targets = ids[end - chunk + 1 : min(end, num_scored) + 1]
        log_p = adapters.logits(window[None], count)[0].log_softmax(-1)
        losses = -log_p.gather(1, targets[:, None])
        nats += float(losses.detach().sum())
        if end >= num_scored:
            break
        gradients = torch.autograd.grad(losses.mean(), adapters.trained())
        with torch.no_grad():
            for p, g, square in zip(adapters.trained(), gradients, squares, strict=True):
                square.mul_(0.99).add_(0.01 * g * g)
                p.mul_(1.0 - ttt.lora_lr * ttt.lora_weight_decay)
                p.sub_(ttt.lora_lr * g / ((square / (1.0 - 0.99**step)).sqrt() + 1e-10))
    return nats


def slow_training(ttt: PhasedLoraTTT, model: Any, text: Tensor) -> None:
    starts = range(0, len(text) - SEQ_LEN, ttt.chunk_tokens)
    velocity = {p: torch.zeros_like(p) for p in model.parameters()}
    model.requires_grad_(True)
    for at, start in enumerate(starts):
        lr = ttt.lr * (1.0 + math.cos(math.pi * at / len(starts))) / 2.0
        chunk = text[start : start + ttt.chunk_tokens + 1]
        rows = [chunk[b : b + SEQ_LEN + 1] for b in range(0, len(chunk) - SEQ_LEN, SEQ_LEN)]
        for first in range(0, len(rows), ttt.batch_seqs):
            batch = torch.stack(rows[first : first + ttt.batch_seqs])
            model.zero_grad()
            model(batch[:, :-1], batch[:, 1:]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            with torch.no_grad():
                for p, v in velocity.items():
                    v.mul_(0.9).add_(p.grad)
                    p.sub_(lr * v)
    model.zero_grad()
    model.requires_grad_(False)


def slow_score(ttt: PhasedLoraTTT, model: Any, stream: TokenStream) -> float:
    """Document by document, longest first, the model trained where a phase ends."""
    ids, nats = torch.from_numpy(stream.ids.astype(np.int64)), 0.0
    begins = [at for at, token in enumerate(ids.tolist()) if token == BOS or at == 0]
    spans = [
        (begin, min(end, len(ids) - 1))
        for begin, end in zip(begins, [*begins[1:], len(ids)], strict=True)
    ]
    queue = sorted((span for span in spans if span[1] > span[0]), key=lambda s: s[0] - s[1])
    prefix = min(ttt.documents.prefix_docs, len(queue))
    phase_ends = {prefix * (i + 1) // ttt.documents.phases for i in range(ttt.documents.phases)}
    texts: list[Tensor] = []
    for place, (begin, end) in enumerate(queue):
        if place in phase_ends and place:
            slow_training(ttt, model, torch.cat(texts))
        model.requires_grad_(False)
        nats += slow_document(ttt, model, ids[begin : end + 1], end - begin, place)
        is_last = end == len(ids) - 1 and ids[-1] != BOS
        texts.append(ids[begin : end + 1 if is_last else end])
    return nats


# Three documents, and all of them in phases; the number of phases that train.
@pytest.mark.parametrize(("num_docs", "prefix_docs"), [(3, 100), (10, 7), (10, 0)])
def test_it_equals_a_slow_loop(num_docs: int, prefix_docs: int) -> None:
    # Long documents have many steps.
    ttt, stream = ttt_with(prefix_docs=prefix_docs, lora_lr=2e-4), stream_of(num_docs=num_docs)
    fast, slow = tiny(), tiny()
    slow.recurrence(True)
    expected = slow_score(ttt, slow, stream)
    found, adapted = score(ttt, fast, stream)
    assert found.nats == pytest.approx(expected, rel=1e-8)
    assert adapted.adaptive and adapted.notes == [ORDER_NOTE]
    for name, value in fast.state_dict().items():
        torch.testing.assert_close(value, slow.state_dict()[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize("batch_docs", [1, 3, 100])
def test_a_document_does_not_depend_on_those_beside_it(batch_docs: int) -> None:
    stream = stream_of()
    expected, _ = score(ttt_with(), tiny(), stream)
    found, _ = score(ttt_with(batch_docs=batch_docs), tiny(), stream)
    assert found.nats == pytest.approx(expected.nats, rel=1e-9)


def test_it_learns_from_what_it_has_scored() -> None:
    model, stream = tiny(), stream_of(600)
    plain = unadapted(model, stream)
    fast = {"lora_lr": 0.01, "lr": 0.05}
    only_adapters, _ = score(ttt_with(**fast, prefix_docs=0), tiny(), stream)
    only_phases, _ = score(ttt_with(**fast | {"lora_lr": 0.0}), tiny(), stream)
    both, adapted = score(ttt_with(**fast), model, stream)
    assert only_adapters.nats < 0.99 * plain.nats and only_phases.nats < 0.99 * plain.nats
    assert both.nats < min(only_adapters.nats, only_phases.nats)
    assert (both.tokens, both.raw_bytes) == (plain.tokens, plain.raw_bytes)
    assert adapted.eligible and adapted.adaptive


def test_documents_of_one_chunk_and_no_phases_are_the_plain_score() -> None:
    model, stream = tiny(), stream_of(40)
    expected, before = unadapted(model, stream), weights(model)
    for ttt in (
        ttt_with(lora_chunk_tokens=SEQ_LEN, prefix_docs=0),
        ttt_with(lora_chunk_tokens=SEQ_LEN, epochs=0),
    ):
        found, adapted = score(ttt, model, stream)
        assert found.nats == pytest.approx(expected.nats, rel=1e-6) and not adapted.adaptive
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# -- causality ------------------------------------------------------------------------------


def recorded(stream: TokenStream) -> list[tuple[list[int], Tensor]]:
    """Nats of each batch of windows in the order they are scored, and the documents they are of."""
    found, model, ttt = [], tiny(), ttt_with()
    ledger = ledger_of(ttt, model, stream)
    seal = ledger._seal

    def record(*arguments: Any) -> Tensor:
        nll: Tensor = seal(*arguments)
        found.append((list(ledger._open.documents)[: len(nll)], nll.detach().clone()))
        return nll

    ledger._seal = record  # type: ignore[method-assign]
    assert ttt.score(model, ledger, World(), Clock({})).adaptive
    return found


def test_a_score_does_not_depend_on_later_tokens() -> None:
    stream = stream_of()
    queue, first = Queue.of(stream.ids, BOS), recorded(stream)
    # In the first, second and last phase; inside a chunk, at its border, before the last token.
    for place, t in ((0, 3), (0, 81), (1, 20), (3, 7), (8, 5)):
        ids = stream.ids.copy()
        later = slice(queue.starts[place] + t + 1, queue.starts[place] + queue.lengths[place])
        ids[later] = ids[later] % 60 + 1  # BOS stays where it is, and is nowhere else
        changed, num_met = recorded(TokenStream(ids, stream.raw_bytes)), 0
        done = dict.fromkeys(range(len(queue)), 0)
        for (rows, nll), (other_rows, other) in zip(first, changed, strict=True):
            assert rows == other_rows
            for row, document in enumerate(rows):
                begin, done[document] = done[document], done[document] + nll.size(1)
                if document == place:
                    # Position p is scored by token p + 1.
                    same = max(0, min(t, done[document]) - begin)
                    assert torch.equal(nll[row, :same], other[row, :same])
                    num_met += not torch.equal(nll[row], other[row])
                elif round_of(document) <= round_of(place):
                    assert torch.equal(nll[row], other[row])
        assert num_met > 0


def round_of(place: int) -> int:
    """Phases end after 3 and 7 documents, and a round has 4 at most."""
    return (place >= 3) + (place >= 7)


# -- phases ---------------------------------------------------------------------------------


def test_the_model_changes_between_phases_by_text_already_scored() -> None:
    model, ttt, stream = tiny(), ttt_with(), stream_of()
    ledger, queue, seen = ledger_of(ttt, model, stream), Queue.of(stream.ids, BOS), []
    text_so_far, score_next, states = ledger.text_so_far, ledger.score_next, []

    def text() -> Tensor:
        seen.append((len(ledger.curve), text_so_far()))
        return seen[-1][1]

    def scored(predictor: Any) -> Any:
        states.append((len(ledger.curve), model.tok_emb.weight.detach().clone()))
        return score_next(predictor)

    with patch.multiple(
        DocumentLedger, text_so_far=lambda _: text(), score_next=lambda _, asked: scored(asked)
    ):
        ttt.score(model, ledger, World(), Clock({}))
    # Rounds of 3, 4 and 3 documents: trained after 3 and after 7.
    assert [count for count, _ in seen] == [1, 2]
    for (_, given), num_docs in zip(seen, (3, 7), strict=True):
        assert given.tolist() == queue.text(stream.ids, num_docs).tolist()
    by_round = {count: weight for count, weight in states}
    assert all(torch.equal(weight, by_round[count]) for count, weight in states)
    assert not torch.equal(by_round[0], by_round[1])
    assert not torch.equal(by_round[1], by_round[2])
    assert all(not p.requires_grad and p.grad is None for p in model.parameters())


# -- budgets --------------------------------------------------------------------------------


class TimedModel(nn.Module):
    """Seconds for 1,000 tokens: 1 to be scored, 3 to be learned from, 5 to be trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.now, self.document_bos = tiny(), 0.0, None
        self.tok_emb = self.model.tok_emb

    def recurrence(self, on: bool) -> None:
        self.model.recurrence(on)

    def forward(self, ids_BT: Tensor, *arguments: Any) -> Tensor:
        self.now += ids_BT.numel() / 200.0
        result: Tensor = self.model(ids_BT, *arguments)
        return result

    def logits(self, ids_BT: Tensor, last_n: int | None = None) -> Tensor:
        self.now += ids_BT.numel() / 1000.0 * (3.0 if torch.is_grad_enabled() else 1.0)
        result: Tensor = self.model.logits(ids_BT, last_n)
        return result


@pytest.fixture
def even_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timed model has no costs of a call."""
    monkeypatch.setitem(document_ledger.CALL_TOKENS, "cpu", 0)


TEXT = stream_of(400, 20)


@functools.cache
def timed(limit_s: float | None, reserve_s: float = 0.0) -> tuple[Score, Adapted, float]:
    model = TimedModel()
    clock = Clock({} if limit_s is None else {"evaluate": limit_s}, now=lambda: model.now)
    with clock.phase("final", "evaluate"):
        result = score(ttt_with(reserve_s=reserve_s), model, TEXT, clock)
    return *result, clock.seconds("final")


def test_a_tiny_budget_scores_everything_unadapted_and_says_so(even_costs: None) -> None:
    found, adapted, used_s = timed(0.1)
    assert found.nats == pytest.approx(unadapted(tiny(), TEXT).nats, rel=1e-6)
    assert not adapted.adaptive and adapted.eligible
    assert adapted.notes[1].startswith("Adapted to 0 of 20 documents, because the evaluation")
    assert adapted.notes[2].startswith("Trained on 0 of ")
    assert used_s < timed(None)[2] / 3.0


@pytest.mark.parametrize("part", [0.5, 0.8])
@pytest.mark.parametrize("reserve_s", [0.0, 1.0])
def test_a_short_budget_is_kept_and_used(part: float, reserve_s: float, even_costs: None) -> None:
    whole, everything, whole_s = timed(None)
    limit_s = part * whole_s + reserve_s
    found, adapted, used_s = timed(limit_s, reserve_s)
    assert everything.notes == [ORDER_NOTE] and found.tokens == whole.tokens == 399
    assert adapted.adaptive and len(adapted.notes) > 1
    # The first chunk that the model is trained on is a guess: 50 tokens.
    assert 0.7 * part * whole_s < used_s < part * whole_s + 0.25


def test_a_budget_that_is_enough_is_not_noticed(even_costs: None) -> None:
    whole, _, whole_s = timed(None)
    found, adapted, _ = timed(1.2 * whole_s)
    assert found == whole and adapted.notes == [ORDER_NOTE]


def test_learning_never_counts_as_less_than_nothing() -> None:
    class Uneven(TimedModel):
        """Scoring meets a hiccup of the machine in the warm-up."""

        def logits(self, ids_BT: Tensor, last_n: int | None = None) -> Tensor:
            self.now += 0.0 if torch.is_grad_enabled() else 1.0
            result: Tensor = self.model.logits(ids_BT, last_n)
            return result

    model, ttt = Uneven(), ttt_with()
    clock = Clock({"evaluate": 100.0}, now=lambda: model.now)
    ledger, sites = ledger_of(ttt, model, TEXT), find_sites(model, World())
    with clock.phase("final", "evaluate"):
        pace = Pace(clock, World(), ledger.work, 0.0)
        assert ttt.warm_up(model, sites, ledger, World(), pace) == 0.0


# -- ranks ----------------------------------------------------------------------------------


def _in_worker(world: World, num_docs: int) -> tuple[tuple[float, int, int], dict[str, Tensor]]:
    # Long documents have many steps, which multiply roundings.
    ttt, stream = ttt_with(batch_docs=2, lora_lr=2e-4), stream_of(num_docs=num_docs)
    model = tiny()
    ledger = ledger_of(ttt, model, stream, world)
    ttt.score(model, ledger, world, Clock({}))
    total = ledger.finish()
    return (total.nats, total.tokens, total.raw_bytes), weights(model)


@pytest.mark.slow
@pytest.mark.parametrize("num_docs", [1, 3, 10])  # of one or three, a rank has none in a round
def test_two_workers_score_and_learn_like_one(num_docs: int) -> None:
    alone, expected = _in_worker(World(), num_docs)
    results = run_in_two_workers(_in_worker, num_docs)
    for found, state in results:
        assert found[0] == pytest.approx(alone[0], rel=1e-7) and found[1:] == alone[1:]
        for name, value in state.items():
            assert torch.equal(value, results[0][1][name]), name
            torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-6)
