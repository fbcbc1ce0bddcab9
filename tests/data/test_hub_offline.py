"""Without a hub: what has changed is compared and named at once, with the command that helps."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pgolf.data import hub_transfer
from pgolf.errors import UserError
from tests.data.hub_server import HubServer
from tests.data.hub_sets import MODEL, SET, TRAIN, VAL, source_of, whole


def damage(path: Path) -> None:
    """Another byte, another time, the same size."""
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(path, (1, 1))


def test_offline_compares_what_has_changed(server: HubServer, tmp_path: Path) -> None:
    source_of(tmp_path).download(show=False)
    os.utime(tmp_path / VAL, (1, 1))  # a copy
    assert source_of(tmp_path).download(show=False, offline=True)["files"] == len(SET)
    damage(tmp_path / TRAIN)
    message = (
        rf"{TRAIN}: sha256 .* instead of .*, and --offline: .*get a_set --shards 4 --to FOLDER"
    )
    with pytest.raises(UserError, match=message):
        source_of(tmp_path).download(show=False, offline=True)
    (tmp_path / MODEL).write_bytes(b"a mod")
    with pytest.raises(UserError, match=f"{MODEL}: 5 bytes instead of 7"):
        source_of(tmp_path).download(show=False, offline=True)
    assert source_of(tmp_path).download(show=False)["fetched"] == 2
    assert whole(tmp_path)


def test_a_damaged_file_without_a_hub_ends_at_once(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    monkeypatch.setattr(hub_transfer, "FIRST_WAIT_S", 1.0)
    source = source_of(tmp_path / "a_set")
    source.download(show=False)
    damage(tmp_path / "a_set" / TRAIN)
    server.close()
    close_session()  # it would go on with the connection that it has
    start = time.monotonic()
    source.check()  # the hub is asked when it is needed
    with pytest.raises(UserError, match=f"{TRAIN}: sha256 .* does not answer"):
        source.documents(tmp_path, show=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for work in (source.check, lambda: source.download(show=False)):
        with pytest.raises(UserError, match=f"{TRAIN}: sha256 .* HF_HUB_OFFLINE is set"):
            work()
    assert time.monotonic() - start < 2


def test_messages_name_the_number_of_shards(server: HubServer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`pgolf data get a_set --shards 3 --to FOLDER`"):
        source_of(tmp_path, train_shards=3).download(show=False, offline=True)
    source_of(tmp_path, train_shards=2).download(show=False)
    (tmp_path / VAL).unlink()
    with pytest.raises(UserError, match=r"get a_set --shards 2 --to"):  # as hub.json has it
        source_of(tmp_path).download(show=False, offline=True)
