"""What a ledger looks after while it asks for a score: that nobody learns, and nobody reads ahead.

It keeps honest methods from mistakes. Python has no secrets: who wants the text itself can have it.
Legend: B batch, T time, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pgolf.distributed import World
from pgolf.errors import RunFailed
from pgolf.kernel.linear import eager
from pgolf.state import norms_of, state_of, tensors_of
from pgolf.ttt.predictor import Predictor

LEARNED = "ttt: the model's weights changed while it scored: score, then adapt"
PROBE_TOKENS = 64
# Of probability that may move: bf16 moves a hundredth at most, one token known ahead nearly all.
MOST_MOVED = 0.05


class Fixed:
    """An object whose public attributes and methods nobody replaces once they are there."""

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_") and hasattr(self, name):
            raise RunFailed(f"ttt: {type(self).__name__}.{name} is not for a method to change")
        super().__setattr__(name, value)


@dataclass(frozen=True)
class States:
    """Norms of all parameters and buffers, for the record of a part.

    Args:
        opened: the model's when the ledger was opened, before any warm-up.
        before, after: the model's before the first and after the last score of the part.
        predictor: of the model and what predicts in its place, before and after the first score.
    """

    opened: float
    before: float
    after: float
    predictor: tuple[float, float]


class Watch:
    """Checks of a ledger.

    Args:
        model: keeps the hooks and methods that it has now.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model, self._code = model, _code_of(model)
        self._changes: list[Tensor] = []
        self._opened, self._states = state_of(model), list[tuple[Tensor, Tensor, Tensor, Tensor]]()
        self._probed: set[type] = set()

    @contextmanager
    def unchanged(self, *objects: object) -> Iterator[None]:
        """Inside, the model and all modules among objects keep parameters and buffers.

        Where these lie is compared at once, their values by `check`: nobody waits for the device.

        Raises:
            RunFailed: a method learned while it was asked, or put code of its own into the model.
        """
        if _code_of(self._model) != self._code:
            raise RunFailed(
                "ttt: the model has got hooks or methods that it did not have; add to its products "
                "by pgolf.kernel.linear.adapted_by, or score by a predictor"
            )
        modules = [found for found in (self._model, *objects) if isinstance(found, nn.Module)]
        places, norms = _places(modules), norms_of(modules)
        model_before = state_of(self._model)
        yield
        if _places(modules) != places:
            raise RunFailed(LEARNED)
        again = norms_of(modules)
        self._changes.append((norms != again).any())
        both = norms.double().norm(), again.double().norm()
        self._states.append((model_before, state_of(self._model), *both))

    def check(self) -> States | None:
        """What `unchanged` saw since the last check, None where nothing was scored.

        Raises:
            RunFailed: values changed inside, by whatever way.
        """
        changes, self._changes = self._changes, []
        states, self._states = self._states, []
        if changes and bool(torch.stack(changes).any()):
            raise RunFailed(LEARNED)
        if not states:
            return None
        first, last = states[0], states[-1]
        return States(
            float(self._opened), float(first[0]), float(last[1]), (float(first[2]), float(first[3]))
        )

    @torch.no_grad()
    def probe(self, predictor: Predictor, ids_BT: Tensor, world: World) -> None:
        """Ask a predictor of a new class twice, with other tokens after half of the first row.

        Args:
            ids_BT: no text, but random ids, at most PROBE_TOKENS a row.

        Raises:
            RunFailed: what it says of the first half depends on what follows, or on other rows.
        """
        if type(predictor) in self._probed:
            return
        self._probed.add(type(predictor))
        kept, others_BT = ids_BT.size(1) // 2, ids_BT.flip(1)
        others_BT[0, :kept] = ids_BT[0, :kept]
        with self.unchanged(predictor), world.autocast(), eager():
            first_TV, other_TV = (
                predictor.logits(ids, ids.size(1))[0, :kept].float().softmax(-1)
                for ids in (ids_BT, others_BT)
            )
        self.check()
        if ((first_TV - other_TV).abs().sum(-1) > 2.0 * MOST_MOVED).any():
            raise RunFailed(
                f"ttt: {type(predictor).__name__} predicts a token by tokens after it, or by other "
                "rows of the batch, which overlap: logits at a position depend on its own row up "
                "to there"
            )


def _places(modules: list[nn.Module]) -> list[tuple[int, int]]:
    """Where each parameter and buffer lies, and torch's count of its in-place changes."""
    return [(tensor.data_ptr(), tensor._version) for tensor in tensors_of(modules)]


def _code_of(model: nn.Module) -> list[tuple[list[int], list[str]]]:
    """Hooks of each module that has any, and its methods that its class does not have like that."""
    found = []
    for module in model.modules():
        hooks = [*module._forward_hooks, *module._forward_pre_hooks]
        own = [name for name, value in vars(module).items() if callable(value)]
        if hooks or own:
            found.append((hooks, own))
    return found
