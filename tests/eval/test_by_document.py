"""What each document took: it is of the right document, adds up to the score, and changes none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pgolf.data.stream import TokenStream
from pgolf.distributed import World
from pgolf.eval.by_document import TalliedStream
from pgolf.eval.sliding import SlidingEvaluator
from pgolf.eval.standard import StandardEvaluator
from tests.model.tiny import tiny_recurrent
from tests.two_workers import run_in_two_workers

BOS = 0
EVALUATORS = [
    StandardEvaluator(seq_len=16, batch_seqs=3),
    SlidingEvaluator(seq_len=16, stride=4, batch_seqs=3),
    SlidingEvaluator(seq_len=16, stride=7, batch_seqs=3),
]


def stream_of(first: int = BOS) -> TokenStream:
    """Documents of 1 to 40 tokens, one of them with a BOS alone, and one at the very end."""
    random = np.random.default_rng(1)
    ids = random.integers(1, 61, 151).astype(np.uint16)
    ids[[20, 21, 60, 97, 120, 150]] = BOS
    ids[0] = first
    return TokenStream(ids, random.integers(0, 9, 151).astype(np.uint16))


class TargetModel(nn.Module):
    """Nats are a number of the target's own, so that a document's are known without windows."""

    def nll(self, ids_BT: Tensor, targets_BN: Tensor) -> Tensor:
        return targets_BN / 64 + 0.125  # exact in fp32


@pytest.mark.parametrize("first", [BOS, 7])
def test_a_token_counts_for_the_document_that_it_lies_in(first: int) -> None:
    stream = stream_of(first)
    # By a loop: a BOS begins a document, the first token of the stream is never scored.
    starts, expected = [0], [[0.0, 0, 0]]
    for place in range(1, stream.num_tokens):
        if stream.ids[place] == BOS:
            starts.append(place)
            expected.append([0.0, 0, 0])
        expected[-1][0] += float(stream.ids[place]) / 64 + 0.125
        expected[-1][1] += 1
        expected[-1][2] += int(stream.raw_bytes[place])
    assert len(starts) == 7 and expected[1][1] == expected[6][1] == 1
    for evaluator in EVALUATORS:
        tallied = TalliedStream(stream, BOS, World())
        evaluator.evaluate(TargetModel(), tallied, World())
        found = tallied.documents()
        assert found[0].tolist() == starts
        assert found[1:].T.tolist() == expected


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_documents_add_up_to_a_score_that_is_the_same_without(evaluator: StandardEvaluator) -> None:
    model, stream = tiny_recurrent(), stream_of()
    tallied = TalliedStream(stream, BOS, World())
    score = evaluator.evaluate(model, tallied, World())
    assert score == evaluator.evaluate(model, stream, World())  # to the last bit
    _, nats, tokens, raw_bytes = tallied.documents()
    assert (tokens.sum(), raw_bytes.sum()) == (score.tokens, score.raw_bytes)
    assert nats.sum() == pytest.approx(score.nats, rel=1e-9) and nats.min() > 0


def score_and_tally(world: World, path: str) -> tuple[float, Tensor]:
    torch.manual_seed(0)
    tallied = TalliedStream(stream_of(), BOS, world)
    score = EVALUATORS[1].evaluate(tiny_recurrent(), tallied, world)
    tallied.write(Path(path))
    return score.nats, torch.from_numpy(tallied.documents())


def test_two_ranks_have_all_documents_together(tmp_path: Path) -> None:
    both = run_in_two_workers(score_and_tally, str(tmp_path / "both.npy"))
    (nats, table), (other_nats, other) = both
    assert nats == other_nats and torch.equal(table, other)
    alone = score_and_tally(World(), str(tmp_path / "alone.npy"))[1]
    assert torch.equal(table[[0, 2, 3]], alone[[0, 2, 3]])
    assert torch.allclose(table[1], alone[1], rtol=1e-6, atol=0)
    assert float(table[1].sum()) == pytest.approx(nats, rel=1e-9)
    written = np.load(tmp_path / "both.npy")
    assert written.tolist() == table.tolist()
