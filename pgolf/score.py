"""A score: how many nats a model needed for how many tokens and how many raw bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """Total negative log-likelihood of a stream.

    Args:
        nats: sum over the scored tokens of -ln p(token), accumulated in float64.
        tokens: number of scored tokens.
        raw_bytes: number of raw UTF-8 bytes that the scored tokens stand for.
    """

    nats: float
    tokens: int
    raw_bytes: int

    @property
    def bpb(self) -> float:
        """Bits per raw byte."""
        return self.nats / math.log(2.0) / self.raw_bytes

    @property
    def nats_per_token(self) -> float:
        return self.nats / self.tokens

    def as_dict(self) -> dict[str, float]:
        return {
            "bpb": self.bpb,
            "nats": self.nats,
            "nats_per_token": self.nats_per_token,
            "tokens": self.tokens,
            "bytes": self.raw_bytes,
        }
