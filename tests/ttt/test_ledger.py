"""The ledger: every position once and in order, text only after its score; cheats fail."""

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
from pgolf.errors import RunFailed
from pgolf.eval.sliding import SlidingEvaluator
from pgolf.eval.standard import StandardEvaluator
from pgolf.evaluate import adapt_and_score
from pgolf.events import EventLog, read_events
from pgolf.score import Score
from pgolf.ttt.ledger import Ledger, synthetic_ids
from tests.model.tiny import tiny_recurrent, weights

Evaluators = SlidingEvaluator | StandardEvaluator
SLIDING = SlidingEvaluator(seq_len=16, stride=4, batch_seqs=3)


def stream_of(num_tokens: int = 150) -> TokenStream:
    random = np.random.default_rng(num_tokens)
    ids = random.integers(0, 61, num_tokens).astype(np.uint16)
    return TokenStream(ids, random.integers(1, 9, num_tokens).astype(np.uint16))


class Recorder(nn.Module):
    """Needs 1 nat for each token and writes down which it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def nll(self, ids_BT: Tensor, targets_BN: Tensor) -> Tensor:
        self.asked += targets_BN.flatten().tolist()
        return torch.ones(targets_BN.shape)


lengths = st.integers(2, 120)
evaluators = st.one_of(
    st.builds(StandardEvaluator, seq_len=st.integers(1, 20), batch_seqs=st.integers(1, 4)),
    st.integers(1, 20).flatmap(
        lambda seq_len: st.builds(
            SlidingEvaluator,
            seq_len=st.just(seq_len),
            stride=st.integers(1, seq_len),
            batch_seqs=st.integers(1, 4),
        )
    ),
)


@settings(max_examples=40, deadline=None)
@given(lengths, evaluators, st.integers(1, 50))
def test_each_position_is_scored_once_in_order_before_its_text_is_given(
    num_tokens: int, evaluator: Evaluators, part_tokens: int
) -> None:
    # Every token is its own position, so what the model is asked for says where.
    stream, model = TokenStream(np.arange(num_tokens), np.ones(num_tokens, np.uint16)), Recorder()
    ledger = Ledger(model, stream, evaluator, World(), part_tokens=part_tokens)
    given_out: list[int] = []
    for part in range(ledger.num_parts):
        text = ledger.score_next().tolist()
        assert text[0] == part * part_tokens
        assert set(text[1:]) <= set(model.asked)
        given_out += text[1:]
    everything = list(range(1, num_tokens))
    assert given_out == everything
    # Where a window reaches beyond the text, its last target stands for what is not there.
    asked = model.asked[: model.asked.index(num_tokens - 1) + 1]
    assert asked == everything and set(model.asked) == set(everything)
    assert ledger.finish() == Score(num_tokens - 1, num_tokens - 1, num_tokens - 1)


@pytest.mark.parametrize("part_tokens", [1, 7, 16, 64, 1000])
def test_without_adapting_parts_add_up_to_the_evaluation(part_tokens: int) -> None:
    model, stream = tiny_recurrent(), stream_of()
    for evaluator in (SLIDING, StandardEvaluator(seq_len=16, batch_seqs=2)):
        ledger = Ledger(model, stream, evaluator, World(), part_tokens=part_tokens)
        for _ in range(ledger.num_parts):
            ledger.score_next()
        found, expected = ledger.finish(), evaluator.evaluate(model, stream, World())
        assert found.nats == pytest.approx(expected.nats, rel=1e-6)
        assert (found.tokens, found.raw_bytes) == (expected.tokens, expected.raw_bytes)


def test_a_score_is_made_with_the_weights_of_its_moment() -> None:
    model, stream = tiny_recurrent(), stream_of(65)
    ledger = Ledger(model, stream, SLIDING, World(), part_tokens=32)
    ledger.score_next()
    first = ledger.total
    with torch.no_grad():
        model.tok_emb.weight.zero_()  # from now on every token is as likely as any other
    ledger.score_next()
    after = ledger.finish()
    assert ledger.curve == [first, after]
    num_uniform = after.tokens - first.tokens
    assert after.nats - first.nats == pytest.approx(num_uniform * math.log(61), rel=1e-6)


def test_the_text_is_a_copy_of_its_own_and_nothing_public_holds_more() -> None:
    ledger = Ledger(tiny_recurrent(), stream_of(), SLIDING, World(), part_tokens=32)
    text = ledger.score_next()
    assert text.dtype == torch.int64 and text.untyped_storage().nbytes() == 33 * 8
    public = [value for name, value in vars(ledger).items() if not name.startswith("_")]
    assert not [v for v in public if isinstance(v, TokenStream | np.ndarray | Tensor | nn.Module)]


def test_events_and_progress_tell_both_scores(tmp_path: Path, capsys: Any) -> None:
    stream, log = stream_of(), EventLog(tmp_path / "events.jsonl")
    plain = Ledger(tiny_recurrent(0), stream, SLIDING, World(), part_tokens=50)
    for _ in range(plain.num_parts):
        plain.score_next()
    other = Ledger(
        tiny_recurrent(1), stream, SLIDING, World(), part_tokens=50, events=log,
        unadapted=plain.curve,
    )  # fmt: skip
    with other.progress("other"):
        for _ in range(other.num_parts):
            other.score_next()
    found = list(read_events(tmp_path / "events.jsonl"))
    parts = [row for row in found if row["event"] == "ttt_part"]
    ends = [score.tokens for score in other.curve]
    assert [row["part"] for row in parts] == [0, 1, 2] and ends[-1] == 149
    assert [row["begin"] for row in parts] == [0, *ends[:-1]]
    assert [row["tokens"] for row in parts] == ends
    assert sum(row["nats"] for row in parts) == pytest.approx(other.curve[-1].nats, rel=1e-12)
    for row in parts:
        states = row["states"]
        assert states["opened"] == states["before"] == states["after"] > 0.0
        assert states["predictor"] == [states["before"], states["after"]]
    rows = [row for row in found if row["event"] == "ttt_curve"]
    assert [row["tokens"] for row in rows] == [score.tokens for score in other.curve]
    assert [row["bpb"] for row in rows] == [score.bpb for score in other.curve]
    assert [row["unadapted_bpb"] for row in rows] == [score.bpb for score in plain.curve]
    shown = f"{rows[-1]['bpb']:.4f} BPB, unadapted {rows[-1]['unadapted_bpb']:.4f}"
    assert shown in capsys.readouterr().err


def test_a_warm_up_sees_no_text_and_leaves_no_trace() -> None:
    model, stream = tiny_recurrent(), stream_of()
    before, scores = weights(model), []
    for warm in (False, True):
        ledger = Ledger(model, stream, SLIDING, World(), part_tokens=64)
        if warm:
            ledger._stream = None  # type: ignore[assignment]
            ledger.warm_up()
            ledger._stream = stream
        for _ in range(ledger.num_parts):
            ledger.score_next()
        scores.append(ledger.finish())
    assert scores[0] == scores[1]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    ids = synthetic_ids(model, 2000)
    assert ids.min() >= 0 and ids.max() == 60


# -- cheating, through the evaluate job's own function ---------------------------------------


def scored_by(method: str, folder: Path) -> dict[str, Any]:
    job = {
        "run_folder": str(folder), "cache": str(folder), "limits": {"evaluate": 600.0},
        "ttt": {"_target_": f"tests.ttt.cheats.{method}"},
    }  # fmt: skip
    return adapt_and_score(Context(job, World()), tiny_recurrent(), stream_of(), SLIDING)


def test_an_honest_method_passes(tmp_path: Path) -> None:
    scores = scored_by("Method", tmp_path)
    expected = SLIDING.evaluate(tiny_recurrent(), stream_of(), World())
    assert scores["final"]["nats"] == pytest.approx(expected.nats, rel=1e-6)
    assert scores["ttt"]["reason"] == "honest" and "control" not in scores


@pytest.mark.parametrize(
    ("cheat", "message"),
    [
        ("ScoresTwice", "score each token once only"),
        ("Skips", r"ended with \d+ tokens that are not scored"),
        ("ScoresNothing", "ended with 149 tokens that are not scored"),
        ("LearnsFromWhatItIsAsked", "weights changed while it scored"),
        ("LearnsByData", "weights changed while it scored"),
        ("AnswersForTheModel", "hooks or methods that it did not have"),
        ("Eavesdrops", "hooks or methods that it did not have"),
        ("FillsInTheScore", "ended with 149 tokens that are not scored"),
        ("ShortensParts", "Ledger.part_tokens is not for a method to change"),
        ("EndsByItself", "Ledger.finish is not for a method to change"),
        ("FitsToWhatItScores", "FitsABias predicts a token by tokens after it"),
        ("ReadsTheNextToken", "NextToken predicts a token by tokens after it"),
    ],
)
def test_a_cheat_fails(cheat: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=message):
        scored_by(cheat, tmp_path)


def test_writing_into_the_text_changes_no_score(tmp_path: Path) -> None:
    honest, cheat = (scored_by(name, tmp_path) for name in ("Method", "WritesIntoTheText"))
    assert cheat["final"]["nats"] == honest["final"]["nats"]
