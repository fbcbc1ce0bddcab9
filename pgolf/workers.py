"""The launcher's side of worker jobs: start them in fresh processes, wait, and leave no orphan."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pgolf.errors import RunFailed, UserError
from pgolf.hardware import Devices

PR_SET_PDEATHSIG = 1
GRACE_S = 4.0
COMPILED = "compiled"  # folder in the cache

# Starts a command with an environment, in a session of its own that ends with this process.
Start = Callable[[list[str], dict[str, str]], "subprocess.Popen[bytes]"]


def run_job(
    job: Path,
    devices: Devices,
    extra_path: str | None = None,
    port: int | None = None,
    start: Start | None = None,
) -> None:
    """Run `pgolf.worker JOB` in fresh worker processes and wait for their end.

    Args:
        job: the job's JSON file; a worker that fails writes `<job>.failure.json` beside it.
        devices: number of workers and threads.
        extra_path: put before everything else on the workers' module path.
        port: start only the worker of this process's own RANK; all meet at this port.
        start: how the processes begin, e.g. in a sandbox; by default without one.

    Raises:
        UserError, RunFailed: as the worker that failed reported.
        KeyboardInterrupt: after all workers have ended.
    """
    failure = failure_file(job)
    failure.unlink(missing_ok=True)
    # -P keeps the current folder off the module path: workers import the installed package.
    python, worker = [sys.executable, "-P", "-m"], ["pgolf.worker", str(job)]
    cache = json.loads(job.read_text(encoding="utf-8"))["cache"]
    environment = _environment(devices, Path(cache), extra_path)
    if port is not None:
        command = [*python, *worker]
        # Each job meets at a port of its own, not in the store that torchrun keeps for launchers.
        environment |= {"MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}
    elif devices.num_workers == 1:  # nobody to meet: torchrun would take longer than this to start
        command = [*python, *worker]
        environment |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    else:
        command = [*python, "pgolf.agent", "--standalone"]
        if start is not None:  # the host's own name may lead to an interface that is not there
            command += ["--local-addr", "127.0.0.1"]
        command += ["--nproc-per-node", str(devices.num_workers), "-m", *worker]
    process = (start or _start)(command, environment)
    try:
        code = _wait(process)
    except BaseException:
        _end(process)
        raise
    if code != 0:
        raise_failure(failure, code)


def _start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        env=environment,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )


def kernel_caches(cache: Path) -> dict[str, Path]:
    """Where compiled kernels stay: with the stages, so that a later run starts in seconds.

    A folder that the user has named by the variable counts.
    """
    variables = {"TRITON_CACHE_DIR": "triton", "TORCHINDUCTOR_CACHE_DIR": "inductor"}
    return {
        name: Path(os.environ.get(name) or cache / COMPILED / folder)
        for name, folder in variables.items()
    }


def _environment(devices: Devices, cache: Path, extra_path: str | None) -> dict[str, str]:
    threads = str(devices.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONSAFEPATH": "1"}
    # Threads that spin while they wait make a run several times slower where another process wants
    # a core, and gain a tenth where none does (docs/measurements.md).
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    environment.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    environment |= {name: str(folder) for name, folder in kernel_caches(cache).items()}
    package_root = str(Path(__file__).resolve().parent.parent)
    paths = [extra_path, package_root, os.environ.get("PYTHONPATH")]
    environment["PYTHONPATH"] = os.pathsep.join(p for p in paths if p)
    return environment


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait; a SIGTERM to this process ends the workers like Ctrl-C does."""

    def interrupt(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        return process.wait()
    finally:
        signal.signal(signal.SIGTERM, previous)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the workers' whole session: first politely, then by force."""
    for signum, grace_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        try:
            os.killpg(process.pid, signum)
        except ProcessLookupError:
            return
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            continue
    # torchrun may be gone while a worker, in the same group, is not.
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def die_with_parent() -> None:
    """Ask Linux for a SIGTERM when the parent dies; elsewhere the parent's handler has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def failure_file(job: Path) -> Path:
    return job.with_suffix(".failure.json")


def raise_failure(path: Path, code: int) -> None:
    """Raise what a worker reported; if it died without a word, say so."""
    if path.exists():
        report = json.loads(path.read_text(encoding="utf-8"))
        if report["kind"] == "user":
            raise UserError(report["message"])
        raise RunFailed(report["message"])
    if code == 2:  # the worker printed its reason, since the run folder takes no more files
        raise UserError("a worker could not go on: its reason stands above")
    if code in (130, -signal.SIGINT, -signal.SIGTERM):
        raise KeyboardInterrupt
    raise RunFailed(
        f"a worker process ended with code {code} without a message (killed, out of "
        "memory, or it could not start: see above): the same command continues from the last "
        "checkpoint"
    )
