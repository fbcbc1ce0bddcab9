"""Runs that several tests look at; all share one cache, so that each stage runs once."""

from __future__ import annotations

import pytest

from tests.integration.command import Done, Workspace

Begun = tuple[Workspace, Done]


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Begun:
    """A workspace and its first run: whoever looks at what that computed finds nothing reused."""
    workspace = Workspace(tmp_path_factory.mktemp("integration"))
    return workspace, workspace.launch()


@pytest.fixture(scope="session")
def workspace(begun: Begun) -> Workspace:
    return begun[0]


@pytest.fixture(scope="session")
def first(begun: Begun) -> Done:
    """The debug run: test-time training, GPTQ, brotli, sliding evaluation."""
    return begun[1]


@pytest.fixture(scope="session")
def plain(workspace: Workspace) -> Done:
    """The same without test-time training."""
    return workspace.launch("ttt=none")
