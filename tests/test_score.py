"""A score against a model whose bits per byte are known."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from pgolf.score import Score


def test_a_uniform_byte_model_needs_eight_bits_a_byte() -> None:
    score = Score(nats=1000 * math.log(256.0), tokens=1000, raw_bytes=1000)
    assert math.isclose(score.bpb, 8.0)
    assert math.isclose(score.nats_per_token, math.log(256.0))


@given(st.floats(1.0, 1e12), st.integers(1, 10**9), st.integers(1, 10**9))
def test_units_agree(nats: float, tokens: int, raw_bytes: int) -> None:
    score = Score(nats, tokens, raw_bytes)
    assert math.isclose(score.bpb * raw_bytes * math.log(2.0), score.nats_per_token * tokens)
    row = json.loads(json.dumps(score.as_dict()))
    assert Score(row["nats"], row["tokens"], row["bytes"]) == score and row["bpb"] == score.bpb
