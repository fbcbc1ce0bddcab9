"""Sends W&B runs that were logged offline, later: which there are, and `wandb sync` for each."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from pgolf.errors import UserError
from pgolf.provenance import environment_with
from pgolf.tracking.wandb_account import Account, find_account, probe
from pgolf.tracking.wandb_process import QUIET
from pgolf.tracking.wandb_resume import folders_of, run_id_of

PROBE_TIMEOUT_S = 8.0
MARK = ".pgolf-synced"  # in the offline run's folder; names the servers that have it
# How a line of wandb begins that tells of a fault; the word alone may be part of a run's name.
ERROR = re.compile(r"(wandb: )?(\[[^\]]*\] )?ERROR\b", re.IGNORECASE)
OFFLINE = "wandb/offline-run-*"


def offline_runs(folder: Path) -> list[Path]:
    """Folders of offline W&B runs in a run folder, or in all run folders below a folder."""
    found = {path for pattern in (OFFLINE, f"**/{OFFLINE}") for path in folder.glob(pattern)}
    return sorted(path for path in found if any(path.glob("*.wandb")))


def run_folder_of(offline: Path) -> Path:
    return offline.parent.parent


def is_finished(offline: Path) -> bool:
    """Whether the run that it belongs to has a result: others may still be writing.

    That of a stopped run is the one that continues it, in a folder beside it.
    """
    own = run_folder_of(offline)
    if (own / "result.json").is_file():
        return True
    continued = [path for path in folders_of(run_id_of(own), own.parent) if path.name > own.name]
    return any((path / "result.json").is_file() for path in continued)


def is_sent(offline: Path, server: str) -> bool:
    """Whether it has been sent to this server."""
    mark = offline / MARK
    return mark.is_file() and server in mark.read_text(encoding="utf-8").split()


def usable_account() -> Account:
    """The account to send to.

    Raises:
        UserError: no key, or the server does not answer.
    """
    account = find_account()
    if not account.usable:
        raise UserError(
            f"there is no API key for {account.url}: run `wandb login` or set WANDB_API_KEY"
        )
    fault = fault_of(account)
    if fault is not None:
        raise UserError(
            f"W&B at {account.url} cannot be used: {fault}; check the network, the key and "
            "WANDB_BASE_URL"
        )
    return account


def fault_of(account: Account) -> str | None:
    """Why the server cannot be used now, or None."""
    return probe(account, PROBE_TIMEOUT_S)


def send(offline: Path, account: Account, timeout_s: float) -> str | None:
    """Send one run with `wandb sync`; returns what went wrong, or None."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "wandb",
        "sync",
        "--yes",
        "--include-synced",
        str(offline),
    ]
    defaults = {**QUIET, "WANDB_BASE_URL": account.url}
    try:
        done = subprocess.run(
            command,
            env=environment_with(defaults),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no end within {timeout_s:g} s"
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    errors = [line for line in lines if ERROR.match(line)]
    if done.returncode != 0 or errors:
        ended = f"wandb sync ended with code {done.returncode}"
        return next(reversed(errors or lines), ended)
    with open(offline / MARK, "a", encoding="utf-8") as file:
        file.write(f"{account.url}\n")
    return None
