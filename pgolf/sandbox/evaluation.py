"""The sandbox of evaluation workers: shipped files, validation text and programs, no network."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pgolf.sandbox.policy import Policy

LOG, EVENTS = "log.txt", "events.jsonl"


def hidden_of(config: dict[str, Any], cache: Path, data: Path, documents: Path) -> dict[str, Any]:
    """What an evaluate job says of its sandbox: what it must not see.

    Args:
        config: of the run; the folder or file that it names as data is hidden as well.
        cache: of all stages.
        data: the prepared shards, training and validation.
        documents: the raw text of both.
    """
    hidden = [cache, data, documents]
    named = config["data"].get("path")
    if isinstance(named, str):
        hidden.append(Path(named))
    return {
        "hidden": [str(path.resolve()) for path in hidden],
        "canary": str((data / "manifest.json").resolve()),
    }


def policy_of(job: dict[str, Any], compiled: Iterable[Path], alone: bool) -> Policy:
    """What the workers of an evaluate job may open.

    Args:
        job: its `sandbox` is that of `hidden_of`.
        compiled: folders of compiled kernels.
        alone: all workers are started by this launcher, on this host.
    """
    run, work = Path(job["run_folder"]), Path(job["output"]).parent
    logs, kernels = [run / LOG, run / EVENTS], list(compiled)
    # Only what is there can be granted.
    for path in logs:
        path.touch()
    for path in kernels:
        path.mkdir(parents=True, exist_ok=True)
    return Policy(
        canary=job["sandbox"]["canary"],
        read=[job["artifact"], job["data_folder"]],
        write=[str(work), *map(os.fspath, [*kernels, *logs])],
        hidden=job["sandbox"]["hidden"],
        network="loopback" if alone else "world",
    )
