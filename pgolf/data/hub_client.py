"""Talking to the Hugging Face hub: whether it answers, what a repository holds, bytes of a file.

Listing and addresses are huggingface_hub's. The bytes are streamed here, since its downloads throw
away what has arrived when they are cut short, which costs hours with files of many gigabytes.
huggingface_hub is imported where it is used: it is slow, and most runs need no download.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from pgolf.data.hub_record import RemoteFile

Answer = TypeVar("Answer")
ANSWER_S, LISTING_S, STALL_S = 1.5, 60.0, 20.0
LONGEST_WAIT_S = 600.0  # two of the hub's windows for counting requests
DROPPED = {"ReadError", "WriteError", "RemoteProtocolError"}
PASSING = {408, 425, 429, 500, 502, 503, 504}


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def endpoint() -> str:
    """HF_ENDPOINT, or the public hub."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def transport_errors() -> tuple[type[Exception], ...]:
    """What a failed request raises; not every OSError, as a full disk is no fault of the hub."""
    from huggingface_hub.errors import HTTPError  # of whichever HTTP library it uses

    return HTTPError, ConnectionError, TimeoutError


def knock(repository: str) -> None:
    """Ask the hub for a sign of life.

    Raises:
        transport_errors(): there is none within ANSWER_S.
    """
    from huggingface_hub.utils import get_session

    address = f"{endpoint()}/api/datasets/{repository}"
    _within(ANSWER_S, lambda: get_session().head(address, timeout=ANSWER_S))


def list_files(repository: str) -> tuple[str, list[RemoteFile]]:
    """Revision and files of a data set's repository.

    Raises:
        transport_errors(): no answer, or the hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    api = HfApi(endpoint=endpoint())

    def ask() -> tuple[str, list[RemoteFile]]:
        revision = str(api.dataset_info(repository, timeout=STALL_S).sha)
        entries = api.list_repo_tree(
            repository, recursive=True, revision=revision, repo_type="dataset"
        )
        return revision, [
            RemoteFile(e.path, e.size, e.lfs.sha256 if e.lfs else None, e.blob_id)
            for e in entries
            if isinstance(e, RepoFile)
        ]

    return _within(LISTING_S, ask)


def address_of(repository: str, revision: str, path: str) -> str:
    """Where a file's bytes are."""
    from huggingface_hub import hf_hub_url

    return str(
        hf_hub_url(repository, path, repo_type="dataset", revision=revision, endpoint=endpoint())
    )


@contextmanager
def open_bytes(address: str, start: int) -> Iterator[tuple[int, Iterator[bytes]]]:
    """The bytes of a file from `start`; yields where they really begin (0 or start), and blocks.

    Raises:
        transport_errors(): the hub refuses, stalls or hangs up.
    """
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    # Sizes and positions are those of the file itself, so it must not be compressed on the way.
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with get_session().stream("GET", address, headers=headers, timeout=STALL_S) as response:
        hf_raise_for_status(response)
        yield start if response.status_code == 206 else 0, response.iter_bytes()


def status_of(error: Exception) -> int | None:
    """HTTP status of a refusal; None where no answer came."""
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def is_passing(error: Exception) -> bool:
    """Whether a request may succeed when it is made again."""
    return status_of(error) in {None, *PASSING}


def has_hung_up(error: Exception) -> bool:
    """Whether someone was there: a connection was made, and dropped before the answer."""
    # By name: releases of huggingface_hub use httpx or httpx2.
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, ConnectionResetError) or not kinds.isdisjoint(DROPPED)


def asked_wait_s(error: Exception) -> float | None:
    """Seconds that the hub asks to wait: Retry-After, or the reset time of its rate limit."""
    response = getattr(error, "response", None)
    if response is None:
        return None
    after = response.headers.get("retry-after", "").strip()
    reset = re.search(r"\bt=(\d+)", response.headers.get("ratelimit", ""))
    if after.isdigit():
        return min(float(after), LONGEST_WAIT_S)
    return min(float(reset[1]), LONGEST_WAIT_S) if reset and status_of(error) == 429 else None


def _within(seconds: float, work: Callable[[], Answer]) -> Answer:
    """The result of `work`, or TimeoutError: looking up a host's name has no limit of its own."""
    outcome: queue.Queue[tuple[Answer | None, BaseException | None]] = queue.Queue()

    def run() -> None:
        try:
            outcome.put((work(), None))
        except BaseException as error:
            outcome.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        answer, error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]
