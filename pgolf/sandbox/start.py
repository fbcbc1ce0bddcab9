"""Starts a process within a policy; its private temp folder and the hook's go with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from pgolf.errors import RunFailed
from pgolf.sandbox import hook
from pgolf.sandbox.policy import Policy

# Best first; the kernel's are not left once they are entered.
LAYERS = ("namespace", "landlock", "seccomp", "audit hook")
ROOT = str(Path(__file__).resolve().parents[2])
START = f"import sys; sys.path.insert(0, {ROOT!r}); from pgolf.sandbox.enter import main; main()"
UNRESTRICTED = {"filesystem": "not enforced", "network": "not enforced"}


class Sandbox:
    """A context in which processes are started; `report` says which layers hold them.

    Args:
        policy: what they may do; their temp folder is added to it.
        layers: that may be used, by default all; fewer for tests.
    """

    def __init__(self, policy: Policy, layers: Sequence[str] | None = None) -> None:
        self.policy, self.layers = policy, LAYERS if layers is None else layers
        self.report: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="pgolf-"))
        self.temporary, self.hook = self.folder / "tmp", self.folder / "hook"
        self.temporary.mkdir()
        self.hook.mkdir()
        read, write = [*self.policy.read, str(self.hook)], [*self.policy.write, str(self.temporary)]
        self.grants = replace(self.policy, read=read, write=write).grants()
        self._write_hook()
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write_hook(self) -> None:
        source = Path(hook.__file__).read_text(encoding="utf-8")
        call = f"install({self.grants!r}, {self.policy.network!r})\n"
        (self.hook / "sitecustomize.py").write_text(f"{source}\n\n{call}", encoding="utf-8")

    def start_session(
        self, command: list[str], environment: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start workers, as `pgolf.workers.run_job` wants it; kernels from the hub as cached."""
        environment = {**environment, "HF_HUB_OFFLINE": "1"}
        return self.start(command, environment, ends_with_launcher=True, start_new_session=True)

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        limits: Mapping[str, int] | None = None,
        ends_with_launcher: bool = False,
        **options: Any,
    ) -> subprocess.Popen[bytes]:
        """Start a process; when this returns, it is held and `report` is filled in.

        Args:
            command: the program's absolute path and its arguments.
            environment: all of it; TMPDIR is set to the private folder.
            limits: by the names of `enter.LIMITS`.
            ends_with_launcher: Linux sends it SIGTERM when this process dies.
            options: of Popen, e.g. stdin, stdout, start_new_session.

        Raises:
            RunFailed: the process could not be restricted, so it was not started.
        """
        reader, writer = os.pipe()
        order: dict[str, Any] = {
            "command": list(command),
            "environment": {**environment, "TMPDIR": str(self.temporary)},
            "grants": self.grants,
            "canary": self.policy.canary,
            "network": self.policy.network,
            "layers": list(self.layers),
            "hook": str(self.hook),
            "limits": dict(limits or {}),
            "ends_with_launcher": ends_with_launcher,
            "report": writer,
        }
        with os.fdopen(reader, "rb") as answer, tempfile.TemporaryFile() as file:
            file.write(json.dumps(order).encode())
            file.flush()
            file.seek(0)
            try:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", START, str(file.fileno())],
                    env=order["environment"],
                    pass_fds=(file.fileno(), writer),
                    **options,
                )
            finally:
                os.close(writer)
            said = answer.read()
        if not said:
            code = process.wait()
            raise RunFailed(f"the sandbox ended with code {code} before the process began")
        self.report = json.loads(said)
        return process
