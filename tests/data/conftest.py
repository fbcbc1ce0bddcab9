"""A hub of our own with one set in it, which the environment points to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.data.hub_server import HubServer
from tests.data.hub_sets import FILES, REPOSITORY, serving


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with serving(monkeypatch, {REPOSITORY: dict(FILES)}) as server:
        yield server
