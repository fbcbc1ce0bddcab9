"""The ledger of documents: each position once, in its window, text after its score; no cheats."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pgolf.context import Context
from pgolf.data.stream import TokenStream
from pgolf.distributed import World
from pgolf.errors import RunFailed, UserError
from pgolf.eval.standard import StandardEvaluator
from pgolf.evaluate import adapt_and_score
from pgolf.events import EventLog, read_events
from pgolf.score import Score
from pgolf.ttt.document_ledger import DocumentLedger
from pgolf.ttt.documents import DocumentOrder
from tests.model.tiny import tiny_recurrent
from tests.two_workers import run_in_two_workers

BOS, CHUNK, SEQ_LEN = 0, 4, 10
ORDER = DocumentOrder(CHUNK, 3, 6, 2)
EVALUATOR = StandardEvaluator(seq_len=SEQ_LEN, batch_seqs=2)


def stream_of(num_tokens: int = 170, num_docs: int = 11) -> TokenStream:
    random = np.random.default_rng(num_tokens)
    ids = random.integers(1, 61, num_tokens).astype(np.uint16)
    ids[random.choice(num_tokens, num_docs, replace=False)] = BOS
    return TokenStream(ids, random.integers(1, 9, num_tokens).astype(np.uint16))


def ledger_of(
    model: nn.Module, stream: TokenStream, world: World | None = None, **changes: Any
) -> DocumentLedger:
    settings = {"order": ORDER, "bos_id": BOS, **changes}
    return DocumentLedger(model, stream, EVALUATOR, world or World(), **settings)


@torch.no_grad()
def score_all(ledger: DocumentLedger, predictor: Any) -> Score:
    for _ in ledger.rounds():
        while ledger.score_next(predictor) is not None:
            pass
    return ledger.finish()


class Recorder:
    """Finds every token as likely as any other, and writes down what it was asked with."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[int], int]] = []
        self.num_calls = 0

    def logits(self, ids_BT: Tensor, last_n: int) -> Tensor:
        self.num_calls += 1
        if self.num_calls > 2:  # before, with random ids, whether it looks ahead
            self.asked += [(row, last_n) for row in ids_BT.tolist()]
        return torch.zeros(len(ids_BT), last_n, 400)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 150),
    st.sets(st.integers(0, 149)),
    st.integers(1, 8),
    st.integers(0, 9),
    st.integers(1, 5),
    st.integers(0, 9),
)
def test_each_position_is_scored_once_after_what_its_document_has_before_it(
    num_tokens: int, begins: set[int], chunk: int, more: int, batch_docs: int, prefix_docs: int
) -> None:
    # Every token but BOS is its own position, so what is asked says where.
    ids = np.arange(num_tokens, dtype=np.uint16) + 1
    ids[[at for at in begins if at < num_tokens]] = BOS
    stream, recorder = TokenStream(ids, ids), Recorder()
    model = nn.Module()
    model.tok_emb = nn.Embedding(400, 1)
    ledger = DocumentLedger(
        model, stream, StandardEvaluator(seq_len=chunk + more, batch_seqs=1), World(),
        order=DocumentOrder(chunk, batch_docs, prefix_docs, 3), bos_id=BOS,
    )  # fmt: skip
    score = score_all(ledger, recorder)
    inputs = [token for row, last_n in recorder.asked for token in row[-last_n:]]
    # Padding is 0, as BOS is.
    assert sorted(token for token in inputs if token) == sorted(ids[:-1][ids[:-1] != BOS])
    assert score.tokens == num_tokens - 1 and score.raw_bytes == ids[1:].sum(dtype=np.int64)
    assert score.nats == pytest.approx((num_tokens - 1) * math.log(400), rel=1e-6)
    starts = [at for at in range(num_tokens) if at == 0 or ids[at] == BOS]
    for row, _ in recorder.asked:
        own = [token for token in row if token]
        assert own == list(range(own[0], own[0] + len(own))) if own else True
        # All of one document: none begins between the first and the last of them.
        assert not own or not any(own[0] <= start < own[-1] for start in starts)


def slow_nats(model: Any, stream: TokenStream, chunk: int = CHUNK, seq_len: int = SEQ_LEN) -> float:
    """Position by position, each in the window that ends with its chunk."""
    nats, start, ids = 0.0, 0, torch.from_numpy(stream.ids.astype(np.int64))
    for position in range(len(ids) - 1):
        if ids[position] == BOS:
            start = position
        end = start + ((position - start) // chunk + 1) * chunk
        window = ids[None, max(start, end - seq_len) : position + 1]
        with torch.no_grad():
            log_p = model.logits(window, 1)[0, 0].log_softmax(-1)
        nats -= float(log_p[ids[position + 1]])
    return nats


def tiny() -> Any:
    model = tiny_recurrent().double()
    model.recurrence(True)
    return model


@pytest.mark.parametrize("num_tokens", [12, 170])
@pytest.mark.parametrize("batch_docs", [1, 3, 50])
def test_scores_are_those_of_a_loop_and_so_is_the_control(num_tokens: int, batch_docs: int) -> None:
    model, stream = tiny(), stream_of(num_tokens)
    expected = slow_nats(model, stream)
    order = DocumentOrder(CHUNK, batch_docs, 6, 2)
    adaptive, control = (ledger_of(model, stream, order=order) for _ in range(2))
    found = score_all(adaptive, model)
    control.score_unadapted()
    for score in (found, control.finish()):
        # The control's nats are fp32 where the ledger makes its own in fp64.
        assert score.nats == pytest.approx(expected, rel=1e-6)
        assert (score.tokens, score.raw_bytes) == (num_tokens - 1, stream.raw_bytes[1:].sum())
    assert len(adaptive.curve) == len(control.curve)
    for one, other in zip(adaptive.curve, control.curve, strict=True):
        assert one.nats == pytest.approx(other.nats, rel=1e-6) and one.tokens == other.tokens


def test_a_chunk_says_its_nats_to_whom_it_helps_and_who_goes_on() -> None:
    model, stream = tiny(), stream_of()
    ledger = ledger_of(model, stream)
    first = next(ledger.rounds())
    assert list(first.documents) == [0, 1, 2] and first.ends_phase
    sealed, total = [], 0.0
    while (chunk := ledger.score_next(model)) is not None:
        sealed.append(chunk)
        total += float(chunk.nll.detach().sum())
    assert sealed[0].nll.requires_grad and sealed[0].nll.shape == (3, CHUNK)
    assert [chunk.num_going_on for chunk in sealed][-1] == 0
    assert total == pytest.approx(ledger.curve[0].nats)
    # What is not there has no nats; the last chunk of the longest document is alone in its row.
    assert sealed[-1].nll.shape[0] == 1


def test_the_text_is_that_of_all_documents_scored_so_far() -> None:
    model, stream = tiny(), stream_of()
    ledger = ledger_of(model, stream)
    assert len(ledger.text_so_far()) == 0
    seen = 0
    with torch.no_grad():
        for part in ledger.rounds():
            while ledger.score_next(model) is not None:
                pass
            text = ledger.text_so_far()
            assert len(text) >= ledger.curve[-1].tokens > seen and text.dtype == torch.int64
            assert int((text == BOS).sum()) in (part.end, part.end - 1)  # the head has no BOS
            assert text.untyped_storage().nbytes() == len(text) * 8
            seen = ledger.curve[-1].tokens
    # All documents, the last one with its last token, unless that is BOS.
    assert sorted(text.tolist()) == sorted(stream.ids.tolist())


def test_rounds_end_with_phases_and_nothing_is_left_to_learn_for_after_the_last() -> None:
    ledger = ledger_of(tiny(), stream_of(), order=DocumentOrder(CHUNK, 2, 6, 2))
    rounds = list(ledger._rounds)
    assert [part.end for part in rounds] == [2, 3, 5, 6, 8, 10, ledger.num_documents]
    assert [part.end for part in rounds if part.ends_phase] == [3, 6]
    assert ledger.work == sum(part.work for part in rounds) > 0.0 and ledger.work_done == 0.0


def test_a_chunk_has_to_fit_into_a_window() -> None:
    with pytest.raises(UserError, match=r"a chunk of 11 .* eval.seq_len=10.*lora_chunk_tokens"):
        ledger_of(tiny(), stream_of(), order=DocumentOrder(11, 3, 6, 2))


def test_events_tell_both_scores_round_by_round(tmp_path: Path) -> None:
    model, stream, log = tiny(), stream_of(), EventLog(tmp_path / "events.jsonl")
    control = ledger_of(model, stream)
    control.score_unadapted()
    ledger = ledger_of(tiny_recurrent(1).double(), stream, events=log, unadapted=control.curve)
    with ledger.progress("documents"):
        score_all(ledger, tiny_recurrent(1).double())
    found = list(read_events(tmp_path / "events.jsonl"))
    parts = [row for row in found if row["event"] == "ttt_part"]
    assert [row["tokens"] for row in parts] == [score.tokens for score in ledger.curve]
    assert all(row["states"]["opened"] == row["states"]["after"] > 0.0 for row in parts)
    rows = [row for row in found if row["event"] == "ttt_curve"]
    assert [row["bpb"] for row in rows] == [score.bpb for score in ledger.curve]
    assert [row["unadapted_bpb"] for row in rows] == [score.bpb for score in control.curve]


def test_nothing_public_holds_text_or_weights() -> None:
    ledger = ledger_of(tiny(), stream_of())
    public = [value for name, value in vars(ledger).items() if not name.startswith("_")]
    assert all(isinstance(value, int) for value in public)


class Drops(nn.Module):
    """A model with dropout, which is for training alone."""

    document_bos = None

    def __init__(self) -> None:
        super().__init__()
        self.model = tiny()
        self.tok_emb, self.dropout = self.model.tok_emb, nn.Dropout(0.5)

    def logits(self, ids_BT: Tensor, last_n: int) -> Tensor:
        result: Tensor = self.dropout(self.model.logits(ids_BT, last_n))
        return result


def test_a_model_is_set_to_score_as_evaluators_do() -> None:
    model, stream = Drops(), stream_of()
    assert model.training
    found = score_all(ledger_of(model, stream), model)
    assert found.nats == pytest.approx(slow_nats(tiny(), stream), rel=1e-6)


# -- cheating, through the evaluate job's own function ---------------------------------------


def scored_by(method: str, folder: Path) -> dict[str, Any]:
    job = {
        "run_folder": str(folder), "cache": str(folder), "limits": {"evaluate": 600.0},
        "bos_id": BOS, "ttt": {"_target_": f"tests.ttt.document_cheats.{method}"},
    }  # fmt: skip
    model = tiny_recurrent().requires_grad_(False)
    return adapt_and_score(Context(job, World()), model, stream_of(), EVALUATOR)


def test_an_honest_method_passes(tmp_path: Path) -> None:
    scores = scored_by("Method", tmp_path)
    expected = ledger_of(tiny_recurrent(), stream_of())
    expected.score_unadapted()
    assert scores["final"]["nats"] == pytest.approx(expected.finish().nats, rel=1e-6)
    assert scores["ttt"]["reason"] == "honest" and "control" not in scores


@pytest.mark.parametrize(
    ("cheat", "message"),
    [
        ("ReadsAhead", "not scored to their end"),
        ("ScoresTwice", "score each token once only"),
        ("ScoresOnAfterTheRound", "score each token once only"),
        ("LeavesDocuments", "not scored to their end"),
        ("LeavesRounds", r"ended with \d+ tokens that are not scored"),
        ("EndsInTheMiddle", "not scored to their end"),
        ("LearnsWhenAsked", "weights changed while it scored"),
        ("ReplacesWhenAsked", "weights changed while it scored"),
        ("TrainsTheModelWhenAsked", "weights changed while it scored"),
        ("LearnsByData", "weights changed while it scored"),
        ("FillsInTheScore", "ended with 169 tokens that are not scored"),
        ("MakesWindowsLonger", "DocumentLedger.seq_len is not for a method to change"),
        ("AnswersForTheModel", "hooks or methods that it did not have"),
        ("LearnsFromNeighbours", "MixesRows predicts a token by tokens after it, or by other rows"),
    ],
)
def test_a_cheat_fails(cheat: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=message):
        scored_by(cheat, tmp_path)


# -- ranks ----------------------------------------------------------------------------------


def _in_worker(world: World, num_docs: int) -> tuple[list[Any], list[int]]:
    model, stream = tiny(), stream_of(170, num_docs)
    ledger = ledger_of(model, stream, world)
    score_all(ledger, model)
    text = ledger.text_so_far()
    control = ledger_of(model, stream, world)
    control.score_unadapted()
    curves = [[(s.nats, s.tokens, s.raw_bytes) for s in c.curve] for c in (ledger, control)]
    return curves, text.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("num_docs", [1, 11])  # of one document, one rank has none
def test_two_workers_share_the_documents(num_docs: int) -> None:
    _, text = _in_worker(World(), num_docs)
    expected = slow_nats(tiny(), stream_of(170, num_docs))
    results = run_in_two_workers(_in_worker, num_docs)
    assert results[0] == results[1] and results[0][1] == text
    for curve in results[0][0]:
        nats, tokens, raw_bytes = curve[-1]
        assert nats == pytest.approx(expected, rel=1e-6)
        assert (tokens, raw_bytes) == (169, stream_of(170, num_docs).raw_bytes[1:].sum())
