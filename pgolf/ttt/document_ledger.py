"""The scoring ledger of methods that adapt to each document: all documents, longest first.

It hands out no text but what is scored, as `pgolf.ttt.ledger` does: a method asks for the next
chunk of the open documents to be scored by a predictor of its own, and gets the nats of that same
forward pass to learn from. The text of whole documents comes at the end of a round of all ranks.
Legend: B documents side by side, T window length, N positions of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from pgolf.data.stream import TokenStream
from pgolf.distributed import World, to_device
from pgolf.errors import RunFailed, UserError
from pgolf.eval.by_document import TalliedStream
from pgolf.kernel.attention import varying_shapes
from pgolf.protocols import Model
from pgolf.score import Score
from pgolf.ttt.account import Account
from pgolf.ttt.documents import Chunk, DocumentOrder, Queue, Round, chunks_of, gather
from pgolf.ttt.ledger import synthetic_ids
from pgolf.ttt.predictor import Predictor, nll_of
from pgolf.ttt.watch import PROBE_TOKENS, Fixed, Watch

if TYPE_CHECKING:
    from pgolf.events import EventLog
    from pgolf.protocols import Evaluator

# On a GPU, a small batch takes as long as one of so many tokens: Python launches a pass's kernels.
CALL_TOKENS = {"cuda": 16384, "cpu": 64}


@dataclass(frozen=True)
class Sealed:
    """A chunk that is scored; nothing about it changes any more.

    Args:
        nll: nats of each position, 0 where there is none, with the predictor's gradient; [B, N].
        num_going_on: documents, the first rows, that have a chunk after it.
    """

    nll: Tensor
    num_going_on: int


class DocumentLedger(Fixed):
    """Scores a stream document by document, chunk by chunk, in rounds of all ranks.

    A chunk is predicted in the window of at most seq_len tokens of its document that ends with it.
    Each rank asks for the chunks of its own documents; the round's end, for which all ranks meet,
    adds up what they have. So every rank goes through all rounds, also where it has no documents.

    Args:
        model: scores unadapted; a method changes its weights in place, between two rounds.
        stream: the text to score; each of its documents begins with bos_id.
        evaluator: says how many tokens a window has, its `seq_len`.
        world: the ranks that share the work.
        order: see `DocumentOrder`.
        events, unadapted: see `Account`; a part is a round.

    Raises:
        UserError: a chunk does not fit into a window.
    """

    def __init__(
        self,
        model: nn.Module,
        stream: TokenStream,
        evaluator: Evaluator,
        world: World,
        *,
        order: DocumentOrder,
        bos_id: int,
        events: EventLog | None = None,
        unadapted: list[Score] | None = None,
    ) -> None:
        self._queue = Queue.of(stream.ids, bos_id)
        self._account = Account(stream.num_tokens - 1, world, events, unadapted)
        self._watch = Watch(model)
        self._model, self._stream, self._world, self._order = model, stream, world, order
        self.seq_len = evaluator.windows(stream.num_tokens - 1).seq_len
        if order.chunk_tokens > self.seq_len:
            raise UserError(
                f"ttt: a chunk of {order.chunk_tokens} tokens does not fit into a window of "
                f"eval.seq_len={self.seq_len}: use shorter chunks (scale.lora_chunk_tokens=...)"
            )
        self.num_documents = len(self._queue)
        self._rounds = list(self._plan())
        self._open: Round | None = None
        self._chunks: Iterator[Chunk] = iter(())
        self._nats = torch.zeros((), dtype=torch.float64, device=world.device)
        self._tokens = self._bytes = 0

    @property
    def curve(self) -> list[Score]:
        """The running total after each round, a list of the caller's own."""
        return [*self._account.curve]

    @property
    def work(self) -> float:
        """Tokens of all windows of rank 0, those of small batches made up to what they cost."""
        return sum(part.work for part in self._rounds)

    @property
    def work_done(self) -> float:
        """That of the rounds that are over."""
        return sum(part.work for part in self._rounds[: len(self.curve)])

    def work_of(self, rows: int, size: int) -> float:
        """That of one batch of windows."""
        return rows * size + CALL_TOKENS[self._world.device.type]

    def largest_batch(self) -> tuple[int, int]:
        """Rows and tokens of a window, as many as any batch of rank 0 has."""
        lengths, chunk = self._queue.lengths[:: self._world.world_size], self._order.chunk_tokens
        size = -(-int(lengths[0]) // chunk) * chunk
        return min(len(lengths), self._order.batch_docs), min(size, self.seq_len)

    def progress(self, label: str) -> AbstractContextManager[None]:
        """Show positions and running BPB inside."""
        return self._account.progress(label)

    def finish(self) -> Score:
        """The score of the whole stream; raises RunFailed where something is not scored."""
        self._check_closed()
        return self._account.finish()

    def rounds(self) -> Iterator[Round]:
        """Open one round after the other; each has to be scored before the next.

        The model is set to score, not to train, as it is for evaluators.

        Raises:
            RunFailed: a round is still open, or everything is scored.
        """
        if len(self.curve) == len(self._rounds):
            raise RunFailed("ttt: everything is scored; a method may score each token once only")
        while len(self.curve) < len(self._rounds):
            self._check_closed()
            self._model.eval()
            self._open = self._rounds[len(self.curve)]
            lengths = self._queue.lengths[self._open.documents]
            self._chunks = chunks_of(lengths, self._order.chunk_tokens, self.seq_len)
            yield self._open

    def score_next(self, predictor: Predictor) -> Sealed | None:
        """Score the next chunk of this rank's open documents, the longest in the first rows.

        Args:
            predictor: keeps a gradient where it wants to learn from the result.

        Returns:
            the sealed chunk; None once all documents are through, which ends the round.

        Raises:
            RunFailed: no round is open, weights changed while they were asked, or the predictor
                looks ahead.
        """
        if self._open is None:
            raise RunFailed("ttt: no documents are open; a method may score each token once only")
        chunk = next(self._chunks, None)
        if chunk is None:
            self._close()
            return None
        starts, ends = self._spans(np.arange(chunk.rows))
        nll = partial(nll_of, predictor)
        if predictor is not self._model:
            ids_BT = synthetic_ids(self._model, 2 * PROBE_TOKENS).view(2, -1)
            ids_BT = ids_BT[: chunk.rows, : self.seq_len].to(self._world.device)
            self._watch.probe(predictor, ids_BT, self._world)
        with self._watch.unchanged(predictor):
            nll_BN = self._seal(nll, starts + chunk.begin, ends, chunk.size, chunk.num_scored)
        return Sealed(nll_BN, chunk.num_going_on)

    def text_so_far(self) -> Tensor:
        """All documents scored so far, those of all ranks, in their order: int64 [n] on the CPU.

        Raises:
            RunFailed: a round is open, so that other documents of it may not be scored yet.
        """
        self._check_closed()
        count = self._rounds[len(self.curve) - 1].end if self.curve else 0
        return torch.from_numpy(self._queue.text(self._stream.ids, count))

    @torch.inference_mode()
    def score_unadapted(self) -> None:
        """Score all that is left with the model as it is, by the same windows.

        The first chunks, whose windows all begin with their document, take one pass together. That
        gives the same up to rounding where a window's length does not change the model, as it does
        beyond its training length.
        """
        for part in self.rounds():
            lengths = self._queue.lengths[part.documents]
            if len(lengths):
                with self._watch.unchanged():
                    self._score_unadapted(lengths)
            self._close()

    def _score_unadapted(self, lengths: np.ndarray) -> None:
        chunk, nll = self._order.chunk_tokens, cast(Model, self._model).nll
        whole = self.seq_len // chunk * chunk
        starts, ends = self._spans(np.arange(len(lengths)))
        size = min(whole, -(-int(lengths[0]) // chunk) * chunk)
        self._seal(nll, starts, ends, size, size)
        later = [
            (row, begin + chunk - self.seq_len)
            for row, length in enumerate(lengths)
            for begin in range(whole, length, chunk)
        ]
        for first in range(0, len(later), self._order.batch_docs):
            rows, begins = np.array(later[first : first + self._order.batch_docs]).T
            starts, ends = self._spans(rows)
            self._seal(nll, starts + begins, ends, self.seq_len, chunk)

    def _plan(self) -> Iterator[Round]:
        world, order, num_docs = self._world, self._order, self.num_documents
        begin = 0
        for phase_end in order.phase_ends(num_docs):
            while begin < phase_end:
                end = min(begin + world.world_size * order.batch_docs, phase_end)
                chunks = chunks_of(
                    self._queue.lengths[begin : end : world.world_size],
                    order.chunk_tokens, self.seq_len,
                )  # fmt: skip
                yield Round(
                    range(begin + world.rank, end, world.world_size),
                    end,
                    end == phase_end < num_docs,
                    sum(self.work_of(chunk.rows, chunk.size) for chunk in chunks),
                )
                begin = end

    def _spans(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First position of some of the open documents, and that after their last."""
        assert self._open is not None
        places = np.array(self._open.documents)[rows]
        starts = self._queue.starts[places]
        return starts, starts + self._queue.lengths[places]

    def _seal(
        self,
        nll: Callable[[Tensor, Tensor], Tensor],
        begins: np.ndarray,
        ends: np.ndarray,
        size: int,
        num_scored: int,
    ) -> Tensor:
        """Nats of a batch of windows, 0 where nothing is scored; they are added up."""
        ids, targets, scored, raw_bytes = gather(self._stream, begins, ends, size, num_scored)
        device = self._world.device
        ids_BT, targets_BN, scored_BN = (
            to_device(torch.from_numpy(array), device) for array in (ids, targets, scored)
        )
        with self._world.autocast(), varying_shapes():
            nll_BN = torch.where(scored_BN, nll(ids_BT, targets_BN), 0.0)
        self._nats += nll_BN.detach().sum(dtype=torch.float64)
        if isinstance(self._stream, TalliedStream):
            self._stream.add(begins, size, scored, nll_BN)
        count = int(scored.sum())
        self._tokens, self._bytes = self._tokens + count, self._bytes + raw_bytes
        self._account.show(count)
        return nll_BN

    def _close(self) -> None:
        nats, tokens, raw_bytes = self._world.sum_floats(
            float(self._nats), self._tokens, self._bytes
        )
        states = self._watch.check()
        self._open = None
        self._nats, self._tokens, self._bytes = torch.zeros_like(self._nats), 0, 0
        self._account.add(Score(nats, int(tokens), int(raw_bytes)), states)

    def _check_closed(self) -> None:
        if self._open is not None:
            raise RunFailed(
                "ttt: documents are open that are not scored to their end; score them first"
            )
