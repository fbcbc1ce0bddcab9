"""Deals the GPUs of a host to jobs that run at the same time, so that no two share one.

Each GPU has a lock file; a job holds the locks of its own while it runs. The system frees those of
a killed job. All sweeps of a user on a host deal from the same locks.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_S = 0.3


def visible_gpus() -> list[str]:
    """Ids of the GPUs that this process may use, in CUDA's order."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    # In a process of its own: the driver looks at the variable once, and it is set below.
    code = "from pgolf.hardware import count_gpus; print(count_gpus())"
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return [str(index) for index in range(int(done.stdout))]


def lock_folder() -> Path:
    """Where the locks of this user lie on this host."""
    return Path(tempfile.gettempdir()) / f"pgolf-gpus-{os.getuid()}"


@contextmanager
def dealt_gpus(gpus: Sequence[str], share: int) -> Iterator[list[str]]:
    """Show `share` of these GPUs, free ones, to whatever this process starts meanwhile.

    Without GPUs nothing is dealt. Waits while too few are free.
    """
    if not gpus:
        yield []
        return
    before = os.environ.get(VISIBLE)
    with free_slot(lock_folder(), gpus, share) as mine:
        os.environ[VISIBLE] = ",".join(mine)
        try:
            yield mine
        finally:
            if before is None:
                del os.environ[VISIBLE]
            else:
                os.environ[VISIBLE] = before


@contextmanager
def free_slot(
    folder: Path, names: Sequence[str], share: int, sleep: Callable[[float], None] = time.sleep
) -> Iterator[list[str]]:
    """Hold the locks of `share` neighbouring names, as soon as all of them are free."""
    share = min(max(1, share), len(names))
    groups = [list(names[at : at + share]) for at in range(0, len(names) - share + 1, share)]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        for group in groups:
            held = _take(folder, group)
            if held is not None:
                with held:
                    yield group
                return
        sleep(POLL_S)


def _take(folder: Path, names: Sequence[str]) -> ExitStack | None:
    """Lock all of the names or none: waiting with a part of them could stop two jobs for ever."""
    with ExitStack() as stack:
        for name in names:
            file: Any = stack.enter_context(open(folder / f"{name}.lock", "w"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
        return stack.pop_all()


def share_of(launcher: dict[str, Any], num_gpus: int, wanted: int | None) -> int | None:
    """GPUs of one job by the launcher's settings; None where jobs are not dealt any here.

    One job after another takes all that it asks for, and a cluster deals its GPUs itself.

    Args:
        launcher: content of hydra.launcher.
        wanted: a user's choice.
    """
    kind = str(launcher.get("_target_", "")).rpartition(".")[2]
    if wanted is not None:
        return wanted
    if kind == "JoblibLauncher":
        at_once = int(launcher.get("n_jobs") or 1)
        at_once = at_once if at_once > 0 else (os.cpu_count() or 1)
        return max(1, num_gpus // at_once)
    return 1 if kind == "LocalLauncher" else None
