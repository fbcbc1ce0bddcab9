"""Several launchers of one run: `torchrun ... launch.py` or srun start launch.py once a worker.

The launcher of rank 0 prepares data and writes job files; every launcher, itself included, then
starts one worker of each job. They need a shared file system, as checkpoints do.
"""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from pgolf.errors import RunFailed
from pgolf.hardware import Devices
from pgolf.sandbox.evaluation import policy_of
from pgolf.sandbox.start import UNRESTRICTED, Sandbox
from pgolf.workers import kernel_caches, run_job

POLL = timedelta(seconds=5)
END = "end"
GOODBYE_POLLS = 100


def inside_torchrun() -> bool:
    """Whether this process was started as one of several (torchrun, or srun with RANK set)."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def run_held(
    job: Path, devices: Devices, extra_path: str | None, port: int | None = None
) -> dict[str, Any]:
    """Run a job's workers, in a sandbox where the job asks for one (pgolf.workers.run_job).

    Returns:
        the layers that held this launcher's workers: `filesystem`, `network`, perhaps `reasons`.
    """
    order = json.loads(job.read_text(encoding="utf-8"))
    if order.get("sandbox") is None:
        run_job(job, devices, extra_path, port)
        return UNRESTRICTED
    kernels = kernel_caches(Path(order["cache"])).values()
    policy = policy_of(order, kernels, alone=port is None)
    with Sandbox(policy) as sandbox:
        run_job(job, devices, extra_path, port, sandbox.start_session)
    return sandbox.report


class Alone:
    """The usual case: one launcher, which starts all workers."""

    def settle(self, devices: Devices) -> Devices:
        """Nothing to change."""
        return devices

    def run_job(self, job: Path, devices: Devices, extra_path: str | None) -> dict[str, Any]:
        """Run a job's workers; returns what held them, see `run_held`."""
        return run_held(job, devices, extra_path)

    def end(self, answer: dict[str, Any]) -> None:
        """Nobody waits."""


class Together:
    """One of several launchers; they talk through a key-value store of torch.distributed."""

    def __init__(self) -> None:
        from torch.distributed import PrefixStore, TCPStore

        self.is_main = int(os.environ["RANK"]) == 0
        self._others = int(os.environ["WORLD_SIZE"]) - 1
        # torchrun hosts a store for its workers; srun does not, so rank 0 does.
        hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        store = TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=self.is_main and not hosted,
            wait_for_workers=False,
            timeout=timedelta(minutes=5),
        )
        # A restarted attempt must not read what the one before left in torchrun's store.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._store = PrefixStore(f"pgolf/{attempt}", store)
        self._jobs = 0

    def settle(self, devices: Devices) -> Devices:
        """As many workers as launchers, and this host's cores shared among its own."""
        local = int(os.environ.get("LOCAL_WORLD_SIZE", self._others + 1))
        threads = max(1, devices.threads * devices.num_workers // local)
        return replace(devices, num_workers=self._others + 1, threads=threads)

    def run_job(self, job: Path, devices: Devices, extra_path: str | None) -> dict[str, Any]:
        """Rank 0: let all launchers start their worker of this job, and run one's own."""
        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
        self._publish(
            {"job": str(job), "devices": devices.as_dict(), "path": extra_path, "port": port}
        )
        return run_held(job, devices, extra_path, port)

    def end(self, answer: dict[str, Any]) -> None:
        """Rank 0: tell the others how it ended, `{"bpb": ...}` or `{"failed": ...}`."""
        self._publish({END: answer})
        # This process may host the store: it stays until the others have read the answer.
        for _ in range(GOODBYE_POLLS):
            if self._store.add("read", 0) >= self._others:
                return
            time.sleep(0.1)

    def follow(self) -> float:
        """The other ranks: run a worker of each job that rank 0 names; returns the final BPB.

        Raises:
            RunFailed: the run failed; rank 0 says why.
        """
        try:
            return self._obey()
        finally:  # rank 0 waits for this; it may be gone already
            with suppress(RuntimeError):
                self._store.add("read", 1)

    def _obey(self) -> float:
        while True:
            order = self._next()
            if END in order:
                if "failed" in order[END]:
                    raise RunFailed(f"rank 0: {order[END]['failed']}")
                return float(order[END]["bpb"])
            devices = Devices(**order["devices"])
            run_held(Path(order["job"]), devices, order["path"], order["port"])

    def _publish(self, order: dict[str, Any]) -> None:
        self._store.set(f"order/{self._jobs}", json.dumps(order))
        self._jobs += 1

    def _next(self) -> dict[str, Any]:
        key = f"order/{self._jobs}"
        self._jobs += 1
        while not self._store.check([key]):
            try:
                self._store.wait([key], POLL)
            except RuntimeError:  # not yet: rank 0 may prepare data for hours
                continue
        order: dict[str, Any] = json.loads(self._store.get(key))
        return order
