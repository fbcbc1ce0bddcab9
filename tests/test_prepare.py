"""What a text is too short for, said before any worker starts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pgolf.errors import UserError
from pgolf.prepare import Prepared


def prepared(*, training: int, validation: int) -> Prepared:
    splits = {"training": training, "validation": validation}
    manifest: Any = SimpleNamespace(
        **{name: SimpleNamespace(num_tokens=count) for name, count in splits.items()}
    )
    return Prepared(Path("shards"), Path("documents"), "key", manifest)


def config(**ttt: Any) -> dict[str, Any]:
    return {"eval": {"seq_len": 64}, "train": {"seq_len": 64, "loader": "global"}, "ttt": ttt}


PREQUANT = {"source": "validation", "epochs": 21, "seq_len": 64}


@pytest.mark.parametrize(
    ("sizes", "ttt", "words"),
    [
        ((900, 64), {}, r"the validation text has 64 tokens, .*eval\.seq_len=64"),
        ((64, 900), {}, r"the training text has 64 tokens, .*train\.seq_len=64"),
        ((900, 80), {**PREQUANT, "seq_len": 80}, r"validation text has 80 .*ttt\.seq_len=80"),
        ((300, 900), {**PREQUANT, "source": "train"}, r"ttt\.source=train .*\(900\), .* only 300"),
    ],
)
def test_a_short_text_is_refused(sizes: tuple[int, int], ttt: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        prepared(training=sizes[0], validation=sizes[1]).check(config(**ttt), 1)


@pytest.mark.parametrize("ttt", [{}, PREQUANT, {**PREQUANT, "epochs": 0, "seq_len": 10**6}])
def test_a_text_that_fits_exactly_passes(ttt: dict[str, Any]) -> None:
    prepared(training=65, validation=65).check(config(**ttt), 1)
