"""Somebody's scorer in a process that has no network, no data and limits, as a `Scorer` here.

What it is fed is all that it knows of the text; its answers are read as numbers, never unpickled.
Each scorer is a fresh process, so that it cannot remember the text of an earlier one.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pgolf.audit import frames
from pgolf.audit.scorer import Fed
from pgolf.errors import RunFailed
from pgolf.sandbox.run import Guarded, Limits, end

MAX_VOCABULARY = 1 << 20
SMALL_BYTES = 1 << 16
STDERR_CHARS = 1500
BLOCK_BYTES = 1 << 20


class SandboxedScorer:
    """A class of a file, run in a sandbox.

    Args:
        path: the file; what lies in its folder can be read, too.
        name: the class, which takes no arguments; see `pgolf.audit.scorer.Scorer`.
        limits: `seconds` are those of one answer.
        hidden: folders that stay closed even below the file's own, e.g. the data.

    Raises:
        RunFailed: it could not be started, or its code fails.
    """

    def __init__(self, path: Path, name: str, limits: Limits, hidden: Sequence[Path] = ()) -> None:
        self.name, self._seconds = f"{path.name}:{name}", limits.seconds
        sandbox = Guarded([path.resolve().parent], hidden=hidden, imports=True)
        sandbox.__enter__()
        errors = open(sandbox.folder / "stderr.txt", "wb")  # noqa: SIM115
        command = [sys.executable, "-P", "-m", "pgolf.audit.scorer_child", str(path.resolve())]
        try:
            with errors:
                self._process = sandbox.launch(
                    [*command, name], limits,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                )  # fmt: skip
        except BaseException:
            sandbox.__exit__()
            raise
        self._sandbox, self.layers = sandbox, sandbox.report
        self.close = weakref.finalize(self, _close, self._process, sandbox)
        hello = self._receive(frames.HELLO, SMALL_BYTES)
        self.vocab_size = int(hello[0].flat[0]) if hello and hello[0].size else 0
        if not 0 < self.vocab_size <= MAX_VOCABULARY:
            raise self._failed(f"it says vocab_size = {self.vocab_size}")

    def begin(self, first_id: int) -> None:
        """See `pgolf.audit.scorer.Scorer`."""
        self._send(frames.pack(frames.BEGIN, np.array([first_id], np.int64)))
        self._receive(frames.ANSWER, 0)

    def feed(self, ids: np.ndarray) -> Fed:
        """See `pgolf.audit.scorer.Scorer`."""
        self._send(frames.pack(frames.FEED, ids.astype(np.int64)))
        most = 8 * len(ids) * (self.vocab_size + 1)
        arrays = self._receive(frames.ANSWER, most)
        shapes = [array.shape for array in arrays]
        expected = [(len(ids), self.vocab_size), (len(ids),)]
        if not shapes or shapes != expected[: len(shapes)]:
            raise self._failed(f"it answers with arrays of {shapes}, expected {expected}")
        return Fed(arrays[0], arrays[1] if len(arrays) > 1 else None)

    def _send(self, message: bytes) -> None:
        assert self._process.stdin is not None
        pipe, rest = self._process.stdin.fileno(), memoryview(message)
        os.set_blocking(pipe, False)
        deadline = time.time() + self._seconds
        while rest:
            self._wait(pipe, selectors.EVENT_WRITE, deadline)
            try:
                rest = rest[os.write(pipe, rest) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return  # its last words say why

    def _receive(self, expected: bytes, most_bytes: int) -> list[np.ndarray]:
        deadline = time.time() + self._seconds
        most_bytes = max(most_bytes, SMALL_BYTES)
        try:
            kind, arrays = frames.unpack(lambda count: self._read(count, deadline), most_bytes)
        except frames.FrameError as error:
            raise self._failed(f"its answer is none: {error}") from error
        except EOFError:
            code = self._process.poll()
            raise self._failed(f"its process ended{'' if code is None else f' ({code})'}") from None
        if kind == frames.ERROR:
            text = arrays[0].tobytes().decode("utf-8", "replace") if arrays else ""
            raise self._failed(text.strip())
        if kind != expected:
            raise self._failed(f"it answers {kind!r} where {expected!r} is due")
        return arrays

    def _read(self, count: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        pipe, found = self._process.stdout.fileno(), bytearray()
        while len(found) < count:
            self._wait(pipe, selectors.EVENT_READ, deadline)
            block = os.read(pipe, min(BLOCK_BYTES, count - len(found)))
            if not block:
                raise EOFError
            found += block
        return bytes(found)

    def _wait(self, pipe: int, event: int, deadline: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, event)
            if not selector.select(max(0.0, deadline - time.time())):
                raise self._failed(f"no answer within {self._seconds:g} s")

    def _failed(self, what: str) -> RunFailed:
        """The error to raise, with the end of what the scorer wrote; it runs no longer."""
        end(self._process)
        said = (self._sandbox.folder / "stderr.txt").read_bytes()[-STDERR_CHARS:]
        self.close()
        tail = said.decode("utf-8", "replace").strip()
        return RunFailed(f"{self.name}: {what}" + (f"\n  it wrote: {tail}" if tail else ""))


def _close(process: subprocess.Popen[bytes], sandbox: Any) -> None:
    end(process)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    sandbox.__exit__()
