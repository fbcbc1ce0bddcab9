"""Methods that break the rules of adapting while scoring, as options of ttt."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from pgolf.clock import Clock
from pgolf.distributed import World
from pgolf.ttt.adapted import Adapted
from pgolf.ttt.ledger import Ledger

CHUNK = 32


class Method:
    """Scores everything and adapts nothing."""

    chunk_tokens, compare = CHUNK, False

    def score(self, model: nn.Module, ledger: Ledger, world: World, clock: Clock) -> Adapted:
        for _ in range(ledger.num_parts):
            ledger.score_next()
        return Adapted(True, "honest")


class ScoresTwice(Method):
    """Adapts to everything, then asks for a second pass."""

    def score(self, model: nn.Module, ledger: Ledger, world: World, clock: Clock) -> Adapted:
        for _ in range(2 * ledger.num_parts):
            ledger.score_next()
        return Adapted(True, "two passes")


class Skips(Method):
    """Leaves out the last part, perhaps a hard one."""

    def score(self, model: nn.Module, ledger: Ledger, world: World, clock: Clock) -> Adapted:
        for _ in range(ledger.num_parts - 1):
            ledger.score_next()
        return Adapted(True, "nearly all")


class ScoresNothing(Method):
    def score(self, model: nn.Module, ledger: Ledger, world: World, clock: Clock) -> Adapted:
        return Adapted(True, "nothing")


class LearnsFromWhatItIsAsked(Method):
    """Changes the model inside the call that scores, where targets pass by."""

    def score(self, model: nn.Module, ledger: Ledger, world: World, clock: Clock) -> Adapted:
        honest = cast(Any, model).nll

        def nll(ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            embedding = cast(nn.Embedding, model.get_submodule("tok_emb")).weight
            embedding[targets.flatten().unique()] *= 1.5
            result: torch.Tensor = honest(ids, targets)
            return result

        cast(Any, model).nll = nll
        try:
            return super().score(model, ledger, world, clock)
        finally:
            del model.nll


class WritesIntoTheText(Method):
    """Would make later parts easy if what it is given were the text itself."""

    def score(self, model: nn.Module, ledger: Ledger, world: World, clock: Clock) -> Adapted:
        for _ in range(ledger.num_parts):
            text = ledger.score_next()
            whole = text.new_empty(0).set_(text.untyped_storage())  # all that lies behind it
            assert len(whole) == len(text)
            whole.zero_()
        return Adapted(True, "writes")
