"""Every kernel's test has Triton's interpreter compute as the GPU does."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


@pytest.fixture(autouse=True)
def repaired_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("triton") is not None:
        from tests.kernel.interpreter import repair

        repair(monkeypatch)
