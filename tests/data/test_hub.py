"""Downloads against a hub of our own: what arrives is what was listed, or is refused by name."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pgolf.data import hub_client
from pgolf.errors import UserError
from tests.data.hub_server import API, HubServer
from tests.data.hub_sets import (
    FILES,
    MODEL,
    REPOSITORY,
    SET,
    SHARDS,
    TRAIN,
    VAL,
    content_of,
    source_of,
    whole,
)

# -- what arrives --------------------------------------------------------------------------------


def test_a_set_arrives_flat_and_only_once(server: HubServer, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "a_set"
    answer = source_of(folder).download(show=False)
    assert whole(folder) and not list(folder.glob(".*.part"))
    assert answer["files"] == answer["fetched"] == len(SET)
    assert answer["bytes"] == sum(len(content_of(name)) for name in SET)
    before = len(server.requests)
    assert source_of(folder).download(show=False)["fetched"] == 0
    assert not [path for _, path, _ in server.requests[before:] if "/resolve/" in path]


def test_shards_are_the_first_ones_and_more_can_follow(server: HubServer, tmp_path: Path) -> None:
    source_of(tmp_path, train_shards=2).download(show=False)
    assert whole(tmp_path, SET[:5])
    assert source_of(tmp_path, train_shards=3).download(show=False)["fetched"] == 1
    assert whole(tmp_path, SET[:6])
    assert source_of(tmp_path, train_shards=1).download(show=False)["files"] == 6


@pytest.mark.parametrize("fault", ["drop", "whole", "wrong", "empty", "503", "429"])
def test_a_passing_fault_does_no_harm(
    server: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    server.faults[VAL] = ["drop", "whole"] if fault == "whole" else [fault]
    server.retry_after = "0"
    source_of(tmp_path).download(show=True)
    assert whole(tmp_path)
    half = f"bytes={len(content_of(VAL)) // 2}-"
    assert server.ranges(VAL) == [None, half if fault in ("drop", "whole") else None]
    named = f"{VAL} arrived with" in capsys.readouterr().err
    assert named == (fault in ("wrong", "empty"))


@pytest.mark.parametrize(("fault", "reason"), [("wrong", "sha256"), ("empty", "0 bytes instead")])
def test_a_file_that_is_wrong_twice_is_refused(
    server: HubServer, tmp_path: Path, fault: str, reason: str
) -> None:
    server.faults[VAL] = [fault] * 2
    with pytest.raises(UserError, match=f"{VAL} of {REPOSITORY} arrived with {reason}.*2 times"):
        source_of(tmp_path).download(show=False)
    assert not (tmp_path / VAL).exists() and not list(tmp_path.glob(f".{VAL}*.part"))
    source_of(tmp_path).download(show=False)
    assert whole(tmp_path)


def test_a_small_file_in_git_is_checked_by_its_git_hash(server: HubServer, tmp_path: Path) -> None:
    server.faults[MODEL] = ["wrong"] * 2
    with pytest.raises(UserError, match=rf"{MODEL} .* git hash"):
        source_of(tmp_path).download(show=False)


def test_an_empty_file_on_the_hub_is_refused(server: HubServer, tmp_path: Path) -> None:
    server.files[REPOSITORY][f"{SHARDS}/{TRAIN}"] = b""
    with pytest.raises(UserError, match=f"{TRAIN}.* has 0 bytes on the hub itself"):
        source_of(tmp_path).download(show=False)


def test_a_lasting_refusal_ends_with_its_reason(server: HubServer, tmp_path: Path) -> None:
    server.faults[VAL] = ["503"] * 20
    with pytest.raises(UserError, match=f"{VAL} cannot be fetched.*503.*run the same command"):
        source_of(tmp_path).download(show=False)
    server.faults[VAL] = ["403"]
    with pytest.raises(UserError, match=r"403.*hf auth login"):
        source_of(tmp_path).download(show=False)
    assert len(server.ranges(VAL)) == 8  # seven times 503, but 403 once


@pytest.mark.parametrize("fault", ["drop", "503"])
def test_the_first_questions_are_asked_again(server: HubServer, tmp_path: Path, fault: str) -> None:
    """Dropped are the sign of life, and (it is asked twice in a row) what follows it."""
    server.faults[API] = [fault] * 3
    source_of(tmp_path).download(show=False)
    assert whole(tmp_path)
    (tmp_path / VAL).unlink()
    server.faults[API] = ["drop"] * 20
    with pytest.raises(UserError, match="does not answer"):
        source_of(tmp_path).download(show=False)
    assert len(server.faults[API]) == 13  # the first time, and six times more


def test_the_hub_says_how_long_to_wait() -> None:
    def wait_s(status: int, **headers: str) -> float | None:
        error = RuntimeError()
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        error.response = SimpleNamespace(status_code=status, headers=named)  # type: ignore[attr-defined]
        return hub_client.asked_wait_s(error)

    assert wait_s(429, retry_after="7") == 7
    assert wait_s(503, retry_after="7") == 7
    assert wait_s(429, ratelimit='"resolvers";r=0;t=55') == 55
    assert wait_s(200, ratelimit='"resolvers";r=9;t=55') is None
    assert wait_s(429, retry_after="999999") == hub_client.LONGEST_WAIT_S
    assert hub_client.asked_wait_s(RuntimeError()) is None


def test_retry_after_is_waited_for(server: HubServer, tmp_path: Path) -> None:
    server.faults[VAL], server.retry_after = ["429"], "1"
    start = time.monotonic()
    source_of(tmp_path).download(show=False)
    assert whole(tmp_path) and time.monotonic() - start > 1


# -- what lies there already ---------------------------------------------------------------------


def test_files_that_lie_there_are_compared(
    server: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / VAL).write_bytes(content_of(VAL)[:-2])
    (tmp_path / TRAIN).write_bytes(content_of(TRAIN))
    source_of(tmp_path).download(show=True)
    assert whole(tmp_path) and not server.ranges(TRAIN)
    size = len(content_of(VAL))
    assert f"{VAL}: {size - 2} bytes instead of {size}: fetched again" in capsys.readouterr().err


def get_command(server: HubServer, folder: Path) -> subprocess.Popen[str]:
    """`pgolf data get caseops --shards 2`, with our server as the hub."""
    dataset = "fineweb10B_sp8192_lossless_caps_caseops_v1_reserved"
    model = "fineweb_8192_bpe_lossless_caps_caseops_v1_reserved.model"
    server.files["romeerp/parameter-golf-caseops-v1"] = {
        path.replace("fineweb_set", dataset).replace(MODEL, model): content
        for path, content in FILES.items()
    }
    command = [sys.executable, "-m", "pgolf.cli", "data", "get", "caseops", "--json"]
    return subprocess.Popen(
        [*command, "--shards", "2", "--to", str(folder)],
        env={**os.environ, "HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    answer: dict[str, Any] = json.loads(output)
    return answer


def test_a_killed_download_is_continued_by_another(server: HubServer, tmp_path: Path) -> None:
    """The first is killed while a file is half there; the second waits for it, then goes on."""
    server.faults[VAL] = ["stall"]
    first = get_command(server, tmp_path)
    while not any(path.stat().st_size for path in tmp_path.glob(f".{VAL}*.part")):
        assert first.poll() is None
        time.sleep(0.01)
    second = get_command(server, tmp_path)
    assert second.stderr is not None and "waiting for another" in second.stderr.readline()
    first.kill()
    first.communicate()
    answer = answer_of(second)
    assert answer["files"] == 5 and answer["set"] == "fineweb_caseops"
    assert server.ranges(VAL) == [None, f"bytes={len(content_of(VAL)) // 2}-"]
    assert len(server.ranges(TRAIN)) == 1
    assert (tmp_path / VAL).read_bytes() == content_of(VAL)
    assert not list(tmp_path.glob(".*.part"))


def test_a_full_disk_is_foreseen(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"GB are to come.*--shards"):
        source_of(tmp_path).download(show=False)


# -- no hub, or another layout -------------------------------------------------------------------


def fails_at_once(source_folder: Path, *parts: str) -> None:
    start = time.monotonic()
    with pytest.raises(UserError) as caught:
        source_of(source_folder).check()
    assert time.monotonic() - start < 2
    for part in (str(source_folder), REPOSITORY, "pgolf data get a_set --to FOLDER", *parts):
        assert part in str(caught.value)


def test_no_connection_fails_at_once_and_says_what_to_copy(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    server.close()
    fails_at_once(tmp_path, VAL.replace("000000", "*"), "does not answer", server.url)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        fails_at_once(tmp_path, "does not answer")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    fails_at_once(tmp_path, "HF_HUB_OFFLINE is set")


def test_offline_says_which_files_are_missing(server: HubServer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fineweb_val_\*\.bin, .*and --offline"):
        source_of(tmp_path).download(show=False, offline=True)
    source_of(tmp_path).download(show=False)
    before = len(server.requests)
    assert source_of(tmp_path).download(show=False, offline=True)["files"] == len(SET)
    (tmp_path / TRAIN).unlink()
    with pytest.raises(UserError, match=rf"missing \({TRAIN}\), and --offline"):
        source_of(tmp_path).download(show=False, offline=True)
    assert len(server.requests) == before


def test_another_layout_is_named(server: HubServer, tmp_path: Path) -> None:
    files = server.files[REPOSITORY]
    with pytest.raises(UserError, match=r"has 4 training shards, 5 are asked for.*--shards 4"):
        source_of(tmp_path, train_shards=5).check()
    del files[f"{SHARDS}/fineweb_val_bytes_000000.bin"]
    with pytest.raises(UserError, match="has 0 byte sidecars for 1 validation shards"):
        source_of(tmp_path).check()
    files[f"datasets/again/{SHARDS}/{VAL}"] = b"again"
    with pytest.raises(UserError, match=r"several of folder fineweb_set with shards \(datasets/"):
        source_of(tmp_path).check()
    for path in [path for path in files if path.endswith(VAL)]:
        del files[path]
    with pytest.raises(UserError, match="has no folder fineweb_set with shards"):
        source_of(tmp_path).check()
    del server.files[REPOSITORY]
    with pytest.raises(UserError, match=rf"{REPOSITORY} cannot be listed.*404.*has moved"):
        source_of(tmp_path).check()
    assert not list(tmp_path.iterdir())
