"""Methods that break the rules of adapting while scoring, as options of ttt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgolf.clock import Clock
from pgolf.distributed import World
from pgolf.score import Score
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

        # In the model itself it would be noticed at once.
        with patch.object(type(model), "nll", lambda _, *asked: nll(*asked)):
            return super().score(model, ledger, world, clock)


class LearnsByData(Method):
    """As above, in a way that torch does not count."""

    def score(self, model: nn.Module, ledger: Ledger, world: World, clock: Clock) -> Adapted:
        for _ in range(ledger.num_parts):
            ledger.score_next(Hasty(model))
        return Adapted(True, "by data")


class Hasty(nn.Module):
    """A bias that rises while the predictor is asked."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.hidden = [model]
        self.bias = nn.Parameter(torch.zeros(61))

    def logits(self, ids_BT: Tensor, last_n: int) -> Tensor:
        self.bias.data.add_(1.0)
        result: Tensor = cast(Any, self.hidden[0]).logits(ids_BT, last_n) + self.bias
        return result


class AnswersForTheModel(Method):
    """Puts a method into the model that finds everything easy."""

    def score(self, model: nn.Module, ledger: Ledger, world: World, clock: Clock) -> Adapted:
        cast(Any, model).nll = lambda ids, targets: torch.zeros(targets.shape)
        return super().score(model, ledger, world, clock)


class Eavesdrops(Method):
    """Has a hook where the text passes by."""

    def score(self, model: nn.Module, ledger: Ledger, world: World, clock: Clock) -> Adapted:
        model.get_submodule("tok_emb").register_forward_hook(lambda *_: None)
        return super().score(model, ledger, world, clock)


class FillsInTheScore(Method):
    """Adds to the list that it may read."""

    def score(self, model: nn.Module, ledger: Ledger, world: World, clock: Clock) -> Adapted:
        ledger.curve.append(Score(1.0, ledger.num_positions, 1000))
        return Adapted(True, "filled in")


class ShortensParts(Method):
    """Half as long, the second part is the end of the first one, which is known by then."""

    def score(self, model: nn.Module, ledger: Ledger, world: World, clock: Clock) -> Adapted:
        ledger.score_next()
        ledger.part_tokens //= 2
        return super().score(model, ledger, world, clock)


class EndsByItself(Method):
    """Replaces the question for the total."""

    def score(self, model: nn.Module, ledger: Ledger, world: World, clock: Clock) -> Adapted:
        cast(Any, ledger).finish = lambda: replace(ledger.total, nats=1.0)
        return super().score(model, ledger, world, clock)


class FitsToWhatItScores(Method):
    """SLOT as first published: a bias fitted to the inputs, most of which are targets, too."""

    def score(self, model: nn.Module, ledger: Ledger, world: World, clock: Clock) -> Adapted:
        for _ in range(ledger.num_parts):
            ledger.score_next(FitsABias(model))
        return Adapted(True, "fits")


class FitsABias:
    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def logits(self, ids_BT: Tensor, last_n: int) -> Tensor:
        with torch.no_grad():
            logits_BTV: Tensor = cast(Any, self.model).logits(ids_BT)
        with torch.inference_mode(False), torch.enable_grad():
            fixed_NV, targets_N = logits_BTV[:, :-1].flatten(0, 1).clone(), ids_BT[:, 1:].flatten()
            bias_V = torch.zeros(fixed_NV.size(1), requires_grad=True)
            for _ in range(5):
                loss = F.cross_entropy(fixed_NV + bias_V, targets_N.clone())
                (gradient_V,) = torch.autograd.grad(loss, bias_V)
                bias_V = (bias_V - 3.0 * gradient_V).detach().requires_grad_()
        return (logits_BTV + bias_V.detach())[:, -last_n:]


class ReadsTheNextToken(Method):
    """Each input is the target of the position before it."""

    def score(self, model: nn.Module, ledger: Ledger, world: World, clock: Clock) -> Adapted:
        for _ in range(ledger.num_parts):
            ledger.score_next(NextToken())
        return Adapted(True, "reads ahead")


class NextToken:
    def logits(self, ids_BT: Tensor, last_n: int) -> Tensor:
        return 9.0 * F.one_hot(ids_BT.roll(-1, dims=1), 61)[:, -last_n:].float()


class WritesIntoTheText(Method):
    """Would make later parts easy if what it is given were the text itself."""

    def score(self, model: nn.Module, ledger: Ledger, world: World, clock: Clock) -> Adapted:
        for _ in range(ledger.num_parts):
            text = ledger.score_next()
            whole = text.new_empty(0).set_(text.untyped_storage())  # all that lies behind it
            assert len(whole) == len(text)
            whole.zero_()
        return Adapted(True, "writes")
