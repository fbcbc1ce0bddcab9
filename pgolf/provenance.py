"""What ran: code, packages, machine, command line and time, and the hash of a configuration."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pgolf.files import sha256_json
from pgolf.hardware import usable_cpus

ROOT = Path(__file__).resolve().parent.parent

# What a number may depend on; the list is fixed so that looking up stays quick.
PACKAGES = (
    "torch",
    "triton",
    "flash-attn",
    "kernels",
    "numpy",
    "hydra-core",
    "omegaconf",
    "sentencepiece",
    "safetensors",
    "brotli",
    "zstandard",
    "pyarrow",
    "wandb",
    "rich",
    "sympy",
    "networkx",
)

# Keys that change no number of a run, or that differ between seeds of one experiment.
BLIND_KEYS = frozenset({"seed", "name", "out_dir", "tracking", "audit", "sandbox"})

GIT_TIMEOUT_S = 2.0
UNTRACKED_MAX_BYTES = 1 << 20


def collect(
    *,
    gpus: Sequence[str] = (),
    command: Sequence[str] | None = None,
    root: Path = ROOT,
) -> dict[str, Any]:
    """Describe this process and its machine; quick, and never fails outside a git checkout.

    Args:
        gpus: names of the devices, as the workers see them.
        command: the command line, by default this process's.
        root: the folder whose git state counts.
    """
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": list(sys.argv if command is None else command),
        "git": git_state(root),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cpu_count": os.cpu_count(),
        "cpus_usable": usable_cpus(),
        "gpus": list(gpus),
        "packages": package_versions(),
    }


def config_hash(config: dict[str, Any]) -> str:
    """Hash of all that decides a run's numbers: equal over seeds, blind to names and tracking."""
    seen = {key: value for key, value in config.items() if key not in BLIND_KEYS}
    return sha256_json(seen)[:16]


def package_versions() -> dict[str, str]:
    """Installed versions by name, read from metadata: nothing is imported."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def cpu_model() -> str:
    """The processor's name, as Linux or else the platform gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def git_state(root: Path) -> dict[str, Any] | None:
    """`{commit, dirty, diff_sha256}`; None where `root` is no checkout's top, or without git.

    `diff_sha256` covers changed and untracked files, so two runs with the same commit and the same
    hash ran the same source; it is None when nothing differs from the commit.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    # An installed package may lie inside another project's checkout, whose commit says nothing.
    if top is None or Path(os.fsdecode(top).strip()).resolve() != root.resolve():
        return None
    head = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    commit = head.decode().strip() if head else None
    diff = _git(root, "diff", "--binary", "HEAD") if commit else b""
    others = _git(root, "ls-files", "-z", "--others", "--exclude-standard")
    digest = hashlib.sha256(diff or b"")
    untracked = sorted(name for name in (others or b"").split(b"\0") if name)
    for name in untracked:
        digest.update(b"\0" + name + b"\0" + _content(root / os.fsdecode(name)))
    dirty = bool(diff or untracked or not commit)
    return {
        "commit": commit,
        "dirty": dirty,
        "diff_sha256": digest.hexdigest() if dirty else None,
    }


def _content(path: Path) -> bytes:
    """The file's bytes; of a large one its size, since it is data rather than source."""
    try:
        size = path.stat().st_size
        return path.read_bytes() if size <= UNTRACKED_MAX_BYTES else str(size).encode()
    except OSError:
        return b""


def _git(root: Path, *arguments: str) -> bytes | None:
    """Output of a git command, None when it fails."""
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=GIT_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def environment(name: str) -> str | None:
    """An environment variable; empty counts as absent. Trackers find accounts through it."""
    return os.environ.get(name) or None


def environment_with(defaults: dict[str, str]) -> dict[str, str]:
    """This process's environment for a child, with values for what is not set yet."""
    return {**defaults, **os.environ}
