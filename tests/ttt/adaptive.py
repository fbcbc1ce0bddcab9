"""What tests of methods that adapt while scoring share: texts, runs, and a model with a timer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pgolf.clock import Clock
from pgolf.data.stream import TokenStream
from pgolf.distributed import World
from pgolf.eval.sliding import SlidingEvaluator
from pgolf.protocols import AdaptiveTTT
from pgolf.score import Score
from pgolf.ttt.adapted import Adapted
from pgolf.ttt.ledger import Ledger
from tests.model.tiny import tiny_recurrent

SEQ_LEN, STRIDE, CHUNK = 16, 4, 50
SLIDING = SlidingEvaluator(seq_len=SEQ_LEN, stride=STRIDE, batch_seqs=5)


def stream_of(num_tokens: int = 230, seed: int = 0) -> TokenStream:
    """A little grammar, which can be learned: each token mostly decides the next."""
    random = np.random.default_rng(seed)
    ids = [1]
    for _ in range(num_tokens - 1):
        ids.append((5 * ids[-1] + 3) % 61 if random.random() < 0.8 else int(random.integers(61)))
    return TokenStream(np.array(ids, np.uint16), np.full(num_tokens, 3, np.uint16))


def adapt_and_score(
    ttt: AdaptiveTTT,
    model: nn.Module,
    stream: TokenStream,
    world: World | None = None,
    clock: Clock | None = None,
) -> tuple[Score, Adapted]:
    world = world or World()
    ledger = Ledger(model, stream, SLIDING, world, part_tokens=ttt.chunk_tokens)
    adapted = ttt.score(model, ledger, world, clock or Clock({}))
    return ledger.finish(), adapted


def scores_of_positions(
    ttt: AdaptiveTTT, model: Any, stream: TokenStream, evaluator: SlidingEvaluator
) -> torch.Tensor:
    """Nats of each position, taken where the model gives them."""
    found, nll = [], model.nll

    def recorded(ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = nll(ids, targets)
        found.append(result.flatten().clone())
        return result

    model.nll = recorded
    ledger = Ledger(model, stream, evaluator, World(), part_tokens=ttt.chunk_tokens)
    adapted = ttt.score(model, ledger, World(), Clock({}))
    assert adapted.adaptive
    values = torch.cat(found)[: stream.num_tokens - 1]  # the last window may reach beyond
    assert float(values.double().sum()) == pytest.approx(ledger.finish().nats, rel=1e-6)
    return values


def window_nats(model: Any, ids: torch.Tensor, start: int) -> float:
    """Nats of what the sliding window at start scores, one softmax at a time."""
    end = min(start + SEQ_LEN, len(ids) - 1)
    with torch.no_grad():
        log_p = model.logits(ids[None, start:end])[0].double().log_softmax(-1)
    found = log_p.gather(1, ids[start + 1 : end + 1, None])
    return -float(found[SEQ_LEN - STRIDE if start else 0 :].sum())


def train_slowly(
    ttt: Any, model: nn.Module, optimizer: torch.optim.Optimizer, ids: torch.Tensor, chunk: int
) -> None:
    """SGD on the whole sequences of a chunk, as PR #1493 describes it."""
    begins = list(range(chunk * CHUNK, (chunk + 1) * CHUNK - SEQ_LEN + 1, SEQ_LEN))
    for _ in range(ttt.epochs):
        for first in range(0, len(begins), ttt.batch_seqs):
            chosen = begins[first : first + ttt.batch_seqs]
            rows = torch.stack([ids[begin : begin + SEQ_LEN + 1] for begin in chosen])
            optimizer.zero_grad()
            model(rows[:, :-1], rows[:, 1:]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()


def changed_after(stream: TokenStream, last: int) -> TokenStream:
    ids = stream.ids.copy()
    ids[last + 1 :] = (ids[last + 1 :] + 17) % 61
    return TokenStream(ids, stream.raw_bytes)


class TimedModel(nn.Module):
    """Takes a second to be scored and five to be trained, on a timer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.now, self.document_bos = tiny_recurrent(), 0.0, None
        self.tok_emb = self.model.tok_emb
        self.num_trained = 0

    def recurrence(self, on: bool) -> None:
        self.model.recurrence(on)

    def forward(self, *arguments: Any) -> torch.Tensor:
        self.now += 5.0
        self.num_trained += 1
        result: torch.Tensor = self.model(*arguments)
        return result

    def nll(self, *arguments: Any) -> torch.Tensor:
        self.now += 1.0
        return self.model.nll(*arguments)
