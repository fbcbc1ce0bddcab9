"""What is probed for causality and normalisation: anything that predicts tokens one by one.

Third-party code is wrapped in these two methods; nothing else is asked of it.
Legend: N tokens of a call, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from pgolf.errors import RunFailed


@dataclass(frozen=True)
class Fed:
    """What a scorer says of the tokens of one call.

    Args:
        log_probs: row i is the natural logarithm of the distribution of token i, made from the
            tokens before it; float [N, V].
        nats: what the scorer books for token i, float [N]; None for a scorer that only gives
            distributions.
    """

    log_probs: np.ndarray
    nats: np.ndarray | None = None


class Scorer(Protocol):
    """A predictor with whatever state it builds from the tokens it was given."""

    vocab_size: int

    def begin(self, first_id: int) -> None:
        """Forget everything; `first_id` is the token before the first predicted one."""

    def feed(self, ids: np.ndarray) -> Fed:
        """Predict and score the next tokens, int64 [N]; may learn from them afterwards."""


def run_scorer(scorer: Scorer, ids: np.ndarray, cuts: list[int] | None = None) -> Fed:
    """Score a whole text.

    Args:
        ids: int64 [n]; the first is given.
        cuts: positions at which one call ends and the next begins; None: one call.

    Returns:
        row i is about token i + 1; [n - 1, V].

    Raises:
        RunFailed: there is not one prediction for each token.
    """
    scorer.begin(int(ids[0]))
    edges = [1, *(cut for cut in cuts or [] if 1 < cut < len(ids)), len(ids)]
    parts = [scorer.feed(ids[a:b].copy()) for a, b in pairwise(edges)]
    for part, (a, b) in zip(parts, pairwise(edges), strict=True):
        shapes = [part.log_probs.shape[:1], *([] if part.nats is None else [part.nats.shape])]
        if part.log_probs.ndim != 2 or any(shape != (b - a,) for shape in shapes):
            raise RunFailed(f"{b - a} tokens were fed, predictions have the shapes {shapes}")
    nats = [part.nats for part in parts if part.nats is not None]
    return Fed(
        np.concatenate([part.log_probs for part in parts]),
        np.concatenate(nats) if len(nats) == len(parts) else None,
    )
