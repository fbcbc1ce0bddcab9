"""The scoring ledger of methods that adapt while scoring: it owns the text and gives it out late.

A method asks for the next part to be scored, with the model as it is now, and gets that part's text
in return. There is no other way to the text: reading ahead, scoring twice and leaving out cannot be
written, and what is missing in the end is refused. So each token is scored exactly once, in order,
before any state has seen it (condition 3 of issue #1017 of openai/parameter-golf).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from pgolf.data.stream import TokenStream
from pgolf.distributed import World
from pgolf.errors import RunFailed
from pgolf.progress import Bar
from pgolf.score import Score
from pgolf.ttt.account import Account
from pgolf.ttt.predictor import Predictor, nll_of
from pgolf.ttt.watch import PROBE_TOKENS, Fixed, Watch

if TYPE_CHECKING:
    from pgolf.events import EventLog
    from pgolf.protocols import Evaluator

SILENT = Bar()


class Ledger(Fixed):
    """Scores a stream part by part; `curve` is the running total after each part.

    Positions are counted as in `pgolf.eval.scoring`: position p is scored by the token after it.
    The windows of a part are those whose scored part begins in it. They are dealt over the ranks,
    and sums are those of all ranks, so that every rank sees the same ledger.

    Args:
        model: the predictor; the method changes its weights in place, between two parts.
        stream: the text to score.
        evaluator: decides the windows, as without adaptation.
        world: every rank calls `score_next` equally often.
        part_tokens: positions of a part.
        events: gets a `ttt_curve` event a part: tokens, bpb, and unadapted_bpb where it is known.
        unadapted: `curve` of a ledger of the same parts, whose model stayed as it is shipped.
    """

    def __init__(
        self,
        model: nn.Module,
        stream: TokenStream,
        evaluator: Evaluator,
        world: World,
        *,
        part_tokens: int,
        events: EventLog | None = None,
        unadapted: list[Score] | None = None,
    ) -> None:
        self.num_positions = stream.num_tokens - 1
        self.num_parts = -(-self.num_positions // part_tokens)
        self.part_tokens = part_tokens
        self._model, self._stream, self._world = model, stream, world
        self._windows = evaluator.windows(self.num_positions)
        self._account = Account(self.num_positions, world, events, unadapted)
        self._watch = Watch(model)

    @property
    def curve(self) -> list[Score]:
        """The running total after each part, a list of the caller's own."""
        return [*self._account.curve]

    @property
    def total(self) -> Score:
        """What is scored so far."""
        return self._account.total

    def progress(self, label: str) -> AbstractContextManager[None]:
        """Show positions and running BPB inside."""
        return self._account.progress(label)

    def finish(self) -> Score:
        """The score of the whole stream; raises RunFailed where something is not scored."""
        return self._account.finish()

    def score_next(self, predictor: Predictor | None = None) -> Tensor:
        """Score the next part with the model as it is now, then give out its text.

        Args:
            predictor: scores in the model's place; see `pgolf.ttt.predictor`.

        Returns:
            int64 [n+1] on the CPU, the method's own copy: n inputs and, shifted by one, n targets
            of the part's positions, all of them scored.

        Raises:
            RunFailed: everything is scored, the model learned while it was asked, or the predictor
                looks ahead.
        """
        part = len(self.curve)
        if part == self.num_parts:
            raise RunFailed("ttt: everything is scored; a method may score each token once only")
        begin = part * self.part_tokens
        end = min(begin + self.part_tokens, self.num_positions)
        windows = self._windows.between(begin, end)
        asked = self._model if predictor is None else _Asked(predictor)
        if predictor is not None:
            ids_BT = synthetic_ids(self._model, 2 * PROBE_TOKENS).view(2, -1)
            ids_BT = ids_BT[:, : self._windows.seq_len].to(self._world.device)
            self._watch.probe(predictor, ids_BT, self._world)
        with self._watch.unchanged(predictor):
            score = windows.score(asked, self._stream, self._world, SILENT)
        self._account.add(score, self._watch.check())
        if self.total.tokens < end:
            scored = self.total.tokens
            raise RunFailed(f"ttt: {scored:,} tokens are scored where {end:,} should be")
        return torch.from_numpy(self._stream.ids[begin : end + 1].astype(np.int64))

    def score_unadapted(self) -> None:
        """Score all that is left with the model as it is."""
        for _ in range(self.num_parts - len(self.curve)):
            self.score_next()

    def warm_up(self) -> None:
        """Score random ids in the shapes of the first part: kernels are compiled and chosen."""
        end = min(self.part_tokens, self.num_positions)
        ids = synthetic_ids(self._model, end + self._windows.seq_len + 1).numpy()
        stream = TokenStream(ids.astype(np.uint16), np.ones(len(ids), np.uint16))
        self._windows.between(0, end).score(self._model, stream, self._world, SILENT)


class _Asked(nn.Module):
    """A predictor in the place of a model."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.predictor = predictor

    def nll(self, ids_BT: Tensor, targets_BN: Tensor) -> Tensor:
        return nll_of(self.predictor, ids_BT, targets_BN)


def synthetic_ids(model: nn.Module, count: int) -> Tensor:
    """Random ids of the model's vocabulary, int64 [count] on the CPU: no text at all."""
    draw = torch.Generator().manual_seed(0)
    return torch.randint(vocab_size(model), (count,), generator=draw)


def vocab_size(model: nn.Module) -> int:
    """Tokens that a model knows."""
    return cast(nn.Embedding, model.get_submodule("tok_emb")).num_embeddings
