"""Which text test-time training before quantization is given."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from pgolf.context import Context
from pgolf.data.stream import TokenStream
from pgolf.distributed import World
from pgolf.errors import UserError
from pgolf.produce import Parts, last_tokens


def shards(*lengths: int) -> list[TokenStream]:
    """Every token is its own position."""
    cuts = np.cumsum((0, *lengths)).tolist()
    pairs = itertools.pairwise(cuts)
    return [TokenStream(np.arange(first, last, dtype=np.uint16)) for first, last in pairs]


@pytest.mark.parametrize("count", [1, 6, 7, 8, 12, 13, 27])
def test_the_last_tokens_are_those_of_all_shards_in_order(count: int) -> None:
    found = last_tokens(shards(15, 5, 7), count)
    assert found.ids.tolist() == list(range(27 - count, 27))


def test_too_little_training_text_is_refused() -> None:
    with pytest.raises(UserError, match=r"has \(28\), but there are only 27"):
        last_tokens(shards(15, 5, 7), 28)


def test_source_train_is_given_no_validation_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Locked(TokenStream):
        """Validation text of which only the length is known."""

        def __init__(self) -> None: ...

        num_tokens = 9  # type: ignore[assignment]

    job = {"run_folder": str(tmp_path), "cache": str(tmp_path), "limits": {}, "config": {},
           "data_folder": str(tmp_path)}  # fmt: skip
    parts = Parts(Context(job, World()))
    locked = parts.validation = Locked()
    monkeypatch.setattr(TokenStream, "open_training", lambda folder: shards(15, 5, 7))
    assert parts.adaptation_text("train").ids.tolist() == list(range(18, 27))
    assert parts.adaptation_text("validation") is locked
