"""What a short script takes as known stands in pgolf's source: a text that is gone is an error."""

from __future__ import annotations

import pytest

from pgolf.bundle.fold import fold
from pgolf.config import compose
from pgolf.pack.script import source_of
from pgolf.pack.script_known import known_of


@pytest.mark.parametrize(
    "overrides",
    [
        ("experiment=v15", "hardware.kernels=fused"),
        ("experiment=v15", "hardware.kernels=plain", "optim=muon_polar"),
        ("experiment=v15", "ttt=score_first", "quant=mixed_search", "codec=ans"),
        ("debug=cpu",),
    ],
)
def test_every_text_is_there(overrides: tuple[str, ...]) -> None:
    config = compose(["tracking=none", *overrides])
    for module, known in known_of(config).items():
        source = source_of(module)
        assert source is not None, module
        text, unmet = fold(source.decode(), known)
        assert not unmet, (module, unmet)
        compile(text, module, "exec")
        assert set(known.checkers) <= set(text.replace("(", " ").split()), module
