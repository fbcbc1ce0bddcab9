"""Runs that several tests look at; all share one cache, so that each stage runs once."""

from __future__ import annotations

import pytest

from tests.integration.command import Done, Workspace


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("integration"))


@pytest.fixture(scope="session")
def first(workspace: Workspace) -> Done:
    """The debug run: test-time training, GPTQ, brotli, sliding evaluation."""
    return workspace.launch()


@pytest.fixture(scope="session")
def plain(workspace: Workspace, first: Done) -> Done:
    """The same without test-time training."""
    return workspace.launch("ttt=none")
