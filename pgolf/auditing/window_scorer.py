"""An artifact as a scorer for the auditor: the real evaluation on a short text, with a recorder.

The windows, the ledger and the method are those of the evaluation; only the vectors that they
would throw away are kept. Legend: B batch, T time, N last positions, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from pgolf.audit.scorer import Fed
from pgolf.clock import Clock
from pgolf.data.stream import TokenStream
from pgolf.distributed import World
from pgolf.eval.scoring import Windows
from pgolf.progress import Bar
from pgolf.protocols import AdaptiveTTT, Evaluator, Model
from pgolf.score import Score
from pgolf.ttt.ledger import Ledger
from pgolf.ttt.predictor import Predictor

SILENT = Bar()


class ArtifactScorer:
    """A fixed predictor: the evaluator's windows over all tokens that it was fed.

    Args:
        model: as `build_model` gives it.
        evaluator: that of the final score.
    """

    def __init__(self, model: nn.Module, evaluator: Evaluator) -> None:
        self.model, self.evaluator = model, evaluator
        self.vocab_size = _vocab_size(model)
        self._ids: list[int] = []

    def begin(self, first_id: int) -> None:
        """See `pgolf.audit.scorer.Scorer`."""
        self._ids = [first_id]

    def feed(self, ids: np.ndarray) -> Fed:
        """Score everything so far anew, by the same windows, and give what is new."""
        before = len(self._ids) - 1
        self._ids += ids.tolist()
        log_probs, nats = self._score(stream_of(self._ids))
        return Fed(log_probs[before:], nats[before:])

    def _score(self, stream: TokenStream) -> tuple[np.ndarray, np.ndarray]:
        recorded = _RecordedEvaluator(self.evaluator)
        recorded.evaluate(self.model, stream, World())
        return recorded.rows(stream.num_tokens - 1)


class AdaptiveScorer(ArtifactScorer):
    """A predictor that learns while it scores: the method itself, on a ledger that records.

    Args:
        build: makes the artifact's model anew, as the method changes it.
        method: an option of ttt with `score`.
    """

    def __init__(
        self, build: Callable[[], nn.Module], evaluator: Evaluator, method: AdaptiveTTT
    ) -> None:
        super().__init__(build(), evaluator)
        self.build, self.method = build, method

    def _score(self, stream: TokenStream) -> tuple[np.ndarray, np.ndarray]:
        model, world, recorded = self.build(), World(), _RecordedEvaluator(self.evaluator)
        part_tokens = self.method.chunk_tokens
        ledger = Ledger(model, stream, recorded, world, part_tokens=part_tokens)
        self.method.score(model, ledger, world, Clock({}))
        ledger.finish()
        return recorded.rows(stream.num_tokens - 1)


class Recorder(nn.Module):
    """A model or a ledger's predictor in whose place it is asked; keeps what it says.

    Nats are those of the scoring itself, vectors a softmax over the logits of the same state.
    """

    def __init__(self, asked: nn.Module) -> None:
        super().__init__()
        self.asked, self.training = asked, asked.training
        self.log_probs: list[np.ndarray] = []
        self.nats: list[np.ndarray] = []

    def nll(self, ids_BT: Tensor, targets_BN: Tensor) -> Tensor:
        """[B, N]; see `pgolf.protocols.Model`."""
        nll_BN = cast(Model, self.asked).nll(ids_BT, targets_BN)
        predictor = cast(Predictor, getattr(self.asked, "predictor", self.asked))
        logits_BNV = predictor.logits(ids_BT, targets_BN.size(1))
        self.log_probs.append(distributions(logits_BNV))
        self.nats.append(nll_BN.detach().double().flatten().numpy())
        return nll_BN


class _RecordedWindows:
    """The windows of a ledger; each part is scored through a recorder."""

    def __init__(self, windows: Windows, recorders: list[Recorder]) -> None:
        self._windows, self._recorders = windows, recorders
        self.seq_len = windows.seq_len

    def between(self, begin: int, end: int) -> _RecordedWindows:
        """See `Windows.between`."""
        return _RecordedWindows(self._windows.between(begin, end), self._recorders)

    def score(self, model: nn.Module, stream: TokenStream, world: World, bar: Bar) -> Score:
        """See `Windows.score`."""
        recorder = Recorder(model)
        self._recorders.append(recorder)
        return self._windows.score(recorder, stream, world, bar)


class _RecordedEvaluator:
    """An evaluator whose windows are recorded."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self.recorders: list[Recorder] = []

    def evaluate(self, model: nn.Module, stream: TokenStream, world: World) -> Score:
        """See `Evaluator.evaluate`."""
        return self.windows(stream.num_tokens - 1).score(model, stream, world, SILENT)

    def windows(self, num_positions: int) -> Any:
        """See `Evaluator.windows`."""
        return _RecordedWindows(self._evaluator.windows(num_positions), self.recorders)

    def rows(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Of the first `count` positions: the last window may reach beyond the text."""
        log_probs = [part for recorder in self.recorders for part in recorder.log_probs]
        nats = [part for recorder in self.recorders for part in recorder.nats]
        return np.concatenate(log_probs)[:count], np.concatenate(nats)[:count]


def distributions(logits_BNV: Tensor) -> np.ndarray:
    """What logits say of each position: logarithms of probabilities, fp32 [B * N, V]."""
    return logits_BNV.detach().double().log_softmax(-1).flatten(0, 1).float().cpu().numpy()


def stream_of(ids: list[int]) -> TokenStream:
    return TokenStream(np.array(ids, np.uint16), np.ones(len(ids), np.uint16))


@torch.inference_mode()
def _vocab_size(model: nn.Module) -> int:
    logits_BNV = cast(Model, model).logits(torch.zeros(1, 1, dtype=torch.int64), 1)
    return int(logits_BNV.size(-1))
