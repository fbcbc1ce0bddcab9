"""A method that adapts document by document as a scorer for the auditor.

The ledger, its rounds and the method are those of the evaluation; a recorder keeps the vectors.
Legend: B documents side by side, T window length, N positions of a chunk, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from pgolf.audit.order import Order
from pgolf.audit.scorer import Fed
from pgolf.auditing.window_scorer import ArtifactScorer, distributions
from pgolf.clock import Clock
from pgolf.distributed import World
from pgolf.errors import RunFailed
from pgolf.protocols import DocumentTTT, Evaluator
from pgolf.ttt.document_ledger import DocumentLedger, Sealed
from pgolf.ttt.documents import Queue, chunks_of
from pgolf.ttt.predictor import Predictor


class DocumentScorer(ArtifactScorer):
    """The method on a ledger that records; documents begin with the text's first token.

    Args:
        build: makes the artifact's model anew, as the method changes it.
        method: an option of ttt with `documents`.
    """

    def __init__(
        self, build: Callable[[], nn.Module], evaluator: Evaluator, method: DocumentTTT
    ) -> None:
        super().__init__(build(), evaluator)
        self.build, self.method = build, method

    def feed(self, ids: np.ndarray) -> Fed:
        """A whole text, as its documents are scored longest first.

        Raises:
            RunFailed: there was another call before.
        """
        if len(self._ids) > 1:
            raise RunFailed("documents are scored longest first: their text is fed in one call")
        return super().feed(ids)

    def _score(self, stream: Any) -> tuple[np.ndarray, np.ndarray]:
        model, world = self.build(), World()
        ledger = RecordingLedger(
            model, stream, self.evaluator, world, order=self.method.documents,
            bos_id=int(stream.ids[0]),
        )  # fmt: skip
        self.method.score(model, ledger, world, Clock({}))
        ledger.finish()
        return ledger.rows(self.vocab_size)


class RecordingLedger(DocumentLedger):
    """A ledger that keeps what predictors say, by position; each position once."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self._asked: Predictor | None = None
        self._kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        super().__init__(*arguments, **settings)

    def score_next(self, predictor: Predictor) -> Sealed | None:
        """See `DocumentLedger.score_next`."""
        self._asked = predictor
        return super().score_next(predictor)

    def _seal(
        self, nll: Callable[[Tensor, Tensor], Tensor], begins: np.ndarray, ends: np.ndarray,
        size: int, num_scored: int,
    ) -> Tensor:  # fmt: skip
        """See `DocumentLedger._seal`; logits are asked for once more, of the same state."""

        def recorded(ids_BT: Tensor, targets_BN: Tensor) -> Tensor:
            nll_BN = nll(ids_BT, targets_BN)
            asked = cast(Predictor, self._model) if self._asked is None else self._asked
            with torch.no_grad():
                log_probs = distributions(asked.logits(ids_BT, targets_BN.size(1)))
            places_BN = begins[:, None] + np.arange(size - num_scored, size)
            scored = (places_BN < ends[:, None]).ravel()
            nats = nll_BN.detach().double().flatten().cpu().numpy()
            self._kept.append((places_BN.ravel()[scored], log_probs[scored], nats[scored]))
            return nll_BN

        return super()._seal(recorded, begins, ends, size, num_scored)

    def rows(self, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Vectors and nats of all positions in the order of the text: [n, V] and [n].

        Raises:
            RunFailed: a position has none, or two.
        """
        places = np.concatenate([places for places, _, _ in self._kept])
        count = self._stream.num_tokens - 1
        if not np.array_equal(np.sort(places), np.arange(count)):
            twice = len(places) - len(np.unique(places))
            raise RunFailed(f"{len(places)} of {count} positions are scored, {twice} of them twice")
        log_probs, nats = np.empty((count, vocab_size), np.float32), np.empty(count)
        log_probs[places] = np.concatenate([rows for _, rows, _ in self._kept])
        nats[places] = np.concatenate([values for _, _, values in self._kept])
        return log_probs, nats


def scoring_order(ids: np.ndarray, method: DocumentTTT, evaluator: Evaluator) -> Order:
    """When the positions of a text are scored, by the lengths of its documents alone.

    Args:
        ids: int64 [n]; documents begin with its first token.
    """
    order, queue = method.documents, Queue.of(ids, int(ids[0]))
    seq_len = evaluator.windows(len(ids) - 1).seq_len
    step, document = np.zeros(len(ids) - 1, np.int64), np.zeros(len(ids) - 1, np.int64)
    begin = count = 0
    for phase_end in order.phase_ends(len(queue)):
        while begin < phase_end:
            end = min(begin + order.batch_docs, phase_end)
            starts, lengths = queue.starts[begin:end], queue.lengths[begin:end]
            for chunk in chunks_of(lengths, order.chunk_tokens, seq_len):
                first = chunk.begin + chunk.size - chunk.num_scored
                for row in range(chunk.rows):
                    scored = slice(
                        starts[row] + min(first, lengths[row]),
                        starts[row] + min(first + chunk.num_scored, lengths[row]),
                    )
                    step[scored], document[scored] = count, begin + row
                count += 1
            begin = end
    return Order(step, document)


def short_documents(ids: np.ndarray, num_tokens: int, num_docs: int) -> np.ndarray:
    """The first tokens of some documents, of different lengths, about num_tokens in all; int64.

    Args:
        ids: a text whose documents begin with its first token.
    """
    starts = np.flatnonzero(ids == ids[0])
    ends = np.append(starts[1:], len(ids))
    # No two alike, none a multiple of the others: some end inside a chunk, others go on.
    shares = np.arange(num_docs, 0, -1) + 1.5
    sizes = np.maximum(2, num_tokens * shares / shares.sum()).astype(np.int64)
    parts = [ids[a : min(a + n, b)] for a, b, n in zip(starts, ends, sizes, strict=False)]
    return np.concatenate(parts).astype(np.int64)
