"""Runs a program that nobody vouches for: no network, given files only, and limits."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgolf.provenance import environment
from pgolf.sandbox.policy import Policy, without
from pgolf.sandbox.start import ROOT, Sandbox

CANARY = "canary"
KEPT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL")
BLOCK_BYTES = 1 << 16


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    Args:
        seconds: from its start to its end.
        cpu_s: of the processor, in each process.
        memory_bytes: of addresses, in each process; libraries for GPUs reserve many.
        file_bytes: of each file that it writes.
        open_files: at once, in each process.
        output_bytes: of both its outputs together.
    """

    seconds: float = 60.0
    cpu_s: int = 600
    memory_bytes: int = 16 << 30
    file_bytes: int = 256 << 20
    open_files: int = 256
    output_bytes: int = 1 << 20

    def of_processes(self) -> dict[str, int]:
        """Those that the kernel keeps, by the names of `enter.LIMITS`."""
        names = ("cpu_s", "memory_bytes", "file_bytes", "open_files")
        return {name: int(getattr(self, name)) for name in names}


@dataclass(frozen=True)
class Finished:
    """How a program ended.

    Args:
        code: its exit code, negative for a signal.
        stdout, stderr: what it wrote, up to the limit.
        ended_by: "itself", "time" or "output".
        layers: what held it.
    """

    code: int
    stdout: bytes
    stderr: bytes
    ended_by: str
    layers: dict[str, Any]


class Guarded(Sandbox):
    """A sandbox for one program and what it starts: a private folder, a bare environment.

    Args:
        read: files and folders, of which what is hidden stays closed.
        write, hidden: see `Policy`; there is no network.
        imports: whether Python in it finds pgolf.
    """

    def __init__(
        self,
        read: Sequence[Path] = (),
        write: Sequence[Path] = (),
        hidden: Sequence[Path] = (),
        imports: bool = False,
    ) -> None:
        self._imports = imports
        package = [Path(ROOT) / "pgolf"] if imports else []
        closed = [str(path.resolve()) for path in hidden]
        opened = [p for path in (*read, *package) for p in without(str(path.resolve()), closed)]
        self._outside = tempfile.TemporaryDirectory(prefix="pgolf-")
        canary = Path(self._outside.name) / CANARY
        canary.write_text("closed\n", encoding="ascii")
        written = [str(path.resolve()) for path in write]
        super().__init__(Policy(str(canary), opened, written, closed))

    def launch(
        self, command: Sequence[str], limits: Limits, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start it in a session of its own, in its private folder.

        Args:
            options: of Popen.

        Raises:
            RunFailed: it could not be restricted, so it was not started.
        """
        kept = {name: environment(name) for name in KEPT}
        bare = {name: value for name, value in kept.items() if value is not None}
        bare |= {"HOME": str(self.temporary), "OMP_NUM_THREADS": "1"}
        if self._imports:
            # A folder of its own: that of the package has other things, which stay closed.
            (self.temporary / "lib").mkdir(exist_ok=True)
            (self.temporary / "lib" / "pgolf").symlink_to(Path(ROOT) / "pgolf")
            bare["PYTHONPATH"] = str(self.temporary / "lib")
        return self.start(
            command, bare, limits=limits.of_processes(), ends_with_launcher=True,
            start_new_session=True, cwd=self.temporary, **options,
        )  # fmt: skip

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._outside.cleanup()


def run_sandboxed(
    command: Sequence[str],
    *,
    read: Sequence[Path] = (),
    write: Sequence[Path] = (),
    hidden: Sequence[Path] = (),
    limits: Limits | None = None,
) -> Finished:
    """Run a program to its end, or to the end of its time or of what it may write.

    Args:
        command: the program's absolute path and its arguments; its input is empty.
        read, write, hidden: see `Guarded`.

    Raises:
        RunFailed: it could not be restricted, so it was not started.
    """
    limits = limits or Limits()
    with Guarded(read, write, hidden) as sandbox:
        process = sandbox.launch(
            command, limits,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            ended_by, stdout, stderr = _collect(process, limits)
        finally:
            end(process)
        return Finished(process.returncode, stdout, stderr, ended_by, sandbox.report)


def _collect(process: subprocess.Popen[bytes], limits: Limits) -> tuple[str, bytes, bytes]:
    """Read both outputs until they end or a limit is reached."""
    deadline, ended_by = time.time() + limits.seconds, "itself"
    kept = {stream: bytearray() for stream in (process.stdout, process.stderr)}
    with selectors.DefaultSelector() as selector:
        for stream in kept:
            assert stream is not None
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map() and ended_by == "itself":
            for key, _ in selector.select(max(0.0, deadline - time.time())):
                block = os.read(key.fd, BLOCK_BYTES)
                kept[key.fileobj] += block  # type: ignore[index]
                if not block:
                    selector.unregister(key.fileobj)
            if sum(map(len, kept.values())) > limits.output_bytes:
                ended_by = "output"
            elif time.time() >= deadline:
                ended_by = "time"
    if ended_by == "itself":
        try:
            process.wait(max(0.0, deadline - time.time()))
        except subprocess.TimeoutExpired:
            ended_by = "time"
    stdout, stderr = (bytes(part[: limits.output_bytes]) for part in kept.values())
    for stream in kept:
        assert stream is not None
        stream.close()
    return ended_by, stdout, stderr


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill the program and everything that it started, at once."""
    # Seccomp keeps its children in its group; the group lives as long as one of them.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
