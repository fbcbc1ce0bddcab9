"""Scorers with a fault and honest ones, with the class that each stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pgolf.audit.flip import Flip
from pgolf.audit.subject import ScoredSlice, Subject
from pgolf.audit.sum import Sum
from tests.audit import scorers, sly_scorers


@dataclass(frozen=True)
class Case:
    """A scorer.

    Args:
        group, how: as of `Mutation`.
        probe: that refuses it; "" for an honest one.
        make: the class.
    """

    group: str
    how: str
    probe: str
    make: Callable[[], Any]


ADAPTS = "adapts on a chunk, then scores it"
RATIO = "hashed n-gram ratio, byte mixture: not a distribution"
FAULTY = [
    Case(ADAPTS, "learns from a chunk first", "FLIP", scorers.AdaptThenScore),
    Case(ADAPTS, "two passes", "FLIP", scorers.TwoPasses),
    Case(ADAPTS, "each chunk twice, the second is reported", "FLIP", sly_scorers.SecondLook),
    Case("SLOT fitted on the positions it scores", "a bias", "FLIP", scorers.Slot),
    Case("warm-up on validation before the first score", "8 tokens", "FLIP", scorers.WarmedUp),
    Case("a gate that reads the realised token", "sharpens a hit", "FLIP", scorers.Gate),
    Case("min over predictors or passes", "of each token", "SUM", scorers.BestOfTwo),
    Case("min over predictors or passes", "larger of two", "SUM", scorers.LargerOfTwo),
    Case("min over predictors or passes", "of each chunk", "FLIP", sly_scorers.BetterForChunk),
    Case("non-causal mixing in the model", "block means", "FLIP", scorers.BlockMean),
    Case(RATIO, "hash buckets", "SUM", scorers.HashBuckets),
    Case(RATIO, "p^(1/n)", "SUM", scorers.ByteMixture),
    Case(RATIO, "part of the alphabet", "SUM", scorers.ShortAlphabet),
    Case("more: scorers", "looks ahead at ends of chunks alone", "FLIP", sly_scorers.BorderPeek),
    Case("more: scorers", "a cache of the module", "FLIP", sly_scorers.Cached),
    Case("more: scorers", "other vectors each time", "FLIP", sly_scorers.Noisy),
    Case("more: scorers", "temperature after the chunk", "FLIP", sly_scorers.ChosenTemperature),
    Case("more: scorers", "the set of tokens that come", "FLIP", sly_scorers.RareWords),
    Case("more: scorers", "all tokens but one normalised", "SUM", sly_scorers.OneTokenMore),
    Case("more: scorers", "nats rounded down", "SUM", sly_scorers.Rounded),
    Case("more: scorers", "nats of the token before", "SUM", sly_scorers.Shifted),
    Case("more: scorers", "not a number", "SUM", sly_scorers.NotANumber),
    Case("more: scorers", "changes the text it was given", "SUM", sly_scorers.Overwrites),
]
HONEST = [
    Case("honest", "pairs", "", scorers.Bigram),
    Case("honest", "pairs, without nats", "", scorers.VectorsOnly),
    Case("honest", "learns from each chunk after it", "", scorers.ByChunks),
]
PROBES = {
    "FLIP": Flip(slice_tokens=0, offsets=12, tolerance=1e-4, seed=0),
    "SUM": Sum(slice_tokens=0, tolerance=1e-4, score_tolerance=1e-3),
}


def text(size: int = 197) -> np.ndarray:
    """A grammar that can be learned; no block divides it, the first token does not come again."""
    random = np.random.default_rng(1)
    ids = [0, 1]
    while len(ids) < size:
        other = int(random.integers(1, scorers.VOCAB))
        ids.append((5 * ids[-1] + 3) % (scorers.VOCAB - 1) + 1 if random.random() < 0.9 else other)
    return np.array(ids)


def subject(case: Case) -> Subject:
    """Nobody tells the probe where its chunks begin."""
    part = ScoredSlice("a scorer", case.make, text())
    return Subject("scorer", Path("somewhere"), slices=lambda num_tokens: [part])
