"""Methods that break the rules of adapting document by document, as options of ttt."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from pgolf.clock import Clock
from pgolf.distributed import World
from pgolf.score import Score
from pgolf.ttt.adapted import Adapted
from pgolf.ttt.document_ledger import DocumentLedger
from pgolf.ttt.documents import DocumentOrder


class Method:
    """Scores everything and adapts nothing."""

    documents, compare = DocumentOrder(4, 3, 6, 2), False

    def score(
        self, model: nn.Module, ledger: DocumentLedger, world: World, clock: Clock
    ) -> Adapted:
        with torch.no_grad():
            for _ in ledger.rounds():
                while ledger.score_next(cast(Any, model)) is not None:
                    pass
        return Adapted(True, "honest")


class ReadsAhead(Method):
    """Asks for the text of documents that are half scored."""

    def score(self, model: nn.Module, ledger: DocumentLedger, *rest: Any) -> Adapted:
        for _ in ledger.rounds():
            ledger.score_next(cast(Any, model))
            ledger.text_so_far()
        return Adapted(True, "ahead")


class ScoresTwice(Method):
    """Goes through all documents a second time."""

    def score(self, model: nn.Module, ledger: DocumentLedger, *rest: Any) -> Adapted:
        super().score(model, ledger, *rest)
        return super().score(model, ledger, *rest)


class ScoresOnAfterTheRound(Method):
    """Asks for one chunk more."""

    def score(self, model: nn.Module, ledger: DocumentLedger, *rest: Any) -> Adapted:
        for _ in ledger.rounds():
            while ledger.score_next(cast(Any, model)) is not None:
                pass
            ledger.score_next(cast(Any, model))
        return Adapted(True, "one more")


class LeavesDocuments(Method):
    """Goes on to other documents where one gets hard."""

    def score(self, model: nn.Module, ledger: DocumentLedger, *rest: Any) -> Adapted:
        for _ in ledger.rounds():
            ledger.score_next(cast(Any, model))
        return Adapted(True, "some")


class LeavesRounds(Method):
    """Scores the first round alone."""

    def score(self, model: nn.Module, ledger: DocumentLedger, *rest: Any) -> Adapted:
        for _ in ledger.rounds():
            while ledger.score_next(cast(Any, model)) is not None:
                pass
            break
        return Adapted(True, "first")


class EndsInTheMiddle(Method):
    """Leaves the last round open."""

    def score(self, model: nn.Module, ledger: DocumentLedger, *rest: Any) -> Adapted:
        for _ in ledger.rounds():
            ledger.score_next(cast(Any, model))
            break
        return Adapted(True, "middle")


class Learner(nn.Module):
    """Changes a weight of its own, or of the model, or puts another in its place, when asked."""

    def __init__(self, model: nn.Module, what: str) -> None:
        super().__init__()
        self.hidden, self.what = [model], what
        self.bias = nn.Parameter(torch.zeros(61))

    @torch.no_grad()
    def logits(self, ids_BT: Tensor, last_n: int) -> Tensor:
        (model,) = self.hidden
        if self.what == "own":
            self.bias.add_(1.0)
        elif self.what == "replaced":
            self.bias.data = self.bias + 1.0
        elif self.what == "data":
            self.bias.data.add_(1.0)
        else:
            cast(Any, model).tok_emb.weight[ids_BT.flatten().unique()] *= 1.5
        result: Tensor = cast(Any, model).logits(ids_BT, last_n) + self.bias
        return result


class LearnsWhenAsked(Method):
    what = "own"

    def score(self, model: nn.Module, ledger: DocumentLedger, *rest: Any) -> Adapted:
        for _ in ledger.rounds():
            while ledger.score_next(Learner(model, self.what)) is not None:
                pass
        return Adapted(True, "learned")


class ReplacesWhenAsked(LearnsWhenAsked):
    what = "replaced"


class TrainsTheModelWhenAsked(LearnsWhenAsked):
    what = "model"


class FillsInTheScore(Method):
    """Adds to the list that it may read."""

    def score(self, model: nn.Module, ledger: DocumentLedger, *rest: Any) -> Adapted:
        ledger.curve.extend([Score(1.0, 1, 1)] * 169)
        return Adapted(True, "filled in")


class MakesWindowsLonger(Method):
    """Takes more context than the evaluator says."""

    def score(self, model: nn.Module, ledger: DocumentLedger, *rest: Any) -> Adapted:
        ledger.seq_len *= 2
        return super().score(model, ledger, *rest)


class AnswersForTheModel(Method):
    """Puts a method into the model that finds everything easy."""

    def score(self, model: nn.Module, ledger: DocumentLedger, *rest: Any) -> Adapted:
        cast(Any, model).nll = lambda ids, targets: torch.zeros(targets.shape)
        ledger.score_unadapted()
        return Adapted(True, "easy")


class LearnsByData(LearnsWhenAsked):
    what = "data"


class MixesRows(nn.Module):
    """Looks into the document in the next row."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def logits(self, ids_BT: Tensor, last_n: int) -> Tensor:
        result: Tensor = cast(Any, self.model).logits(ids_BT, last_n)
        return result + result.roll(1, dims=0)


class LearnsFromNeighbours(Method):
    def score(self, model: nn.Module, ledger: DocumentLedger, *rest: Any) -> Adapted:
        for _ in ledger.rounds():
            while ledger.score_next(MixesRows(model)) is not None:
                pass
        return Adapted(True, "neighbours")
