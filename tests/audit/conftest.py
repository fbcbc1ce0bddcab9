"""One run for all tests of the auditor, and a copy of it for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.audit.made import Made, copy_of, make_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A clean run, made by launch.py with its own audit."""
    return make_run(tmp_path_factory.mktemp("audit"))


@pytest.fixture
def made(finished: Made, tmp_path: Path) -> Made:
    """A copy to tamper with."""
    return copy_of(finished, tmp_path)
