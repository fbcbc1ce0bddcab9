"""What a process may open and where it may connect to: granted paths, and what stays hidden."""

from __future__ import annotations

import importlib.util
import os
import site
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pgolf.provenance import environment

Network = Literal["none", "loopback", "world"]

# Where systems keep programs, libraries and their settings.
SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/etc", "/opt", "/run",
          "/sys", "/nix", "/gnu")  # fmt: skip
# Drivers and Python write to both.
DEVICES = ("/dev", "/proc")
# Variables that name folders of programs and libraries.
PATHS = ("PATH", "LD_LIBRARY_PATH", "LIBRARY_PATH", "CPATH", "CUDA_HOME", "CUDA_PATH", "PYTHONPATH")
# Packages that may lie outside the usual places.
PACKAGES = ("torch", "numpy")
KERNELS = "models--kernels-community--*"  # compiled attention, which the hub's cache keeps


@dataclass(frozen=True)
class Policy:
    """What a sandboxed process is given.

    Args:
        canary: a file that it must not be able to open: tried before the process starts.
        read, write: files and folders, with all that is below them.
        hidden: stays closed although it lies below a folder of programs or libraries; what `read`
            and `write` name is open nevertheless.
        network: "none"; "loopback": this host alone; "world": what Python connects to is refused
            outside this host, while libraries reach workers on other hosts.
    """

    canary: str
    read: list[str] = field(default_factory=list)
    write: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    network: Network = "none"

    def grants(self) -> dict[str, bool]:
        """Paths, each with whether it may be written; programs and libraries are among them."""
        hidden = [os.path.realpath(path) for path in self.hidden]
        hidden += _disks()
        found: dict[str, bool] = {}
        for roots, writes in ((programs(), False), (DEVICES, True)):
            for root in roots:
                for path in without(os.path.realpath(root), hidden):
                    found[path] = found.get(path, False) or writes
        found |= {os.path.realpath(path): False for path in self.read}
        return found | {os.path.realpath(path): True for path in self.write}


def without(root: str, hidden: list[str]) -> list[str]:
    """The folder itself, or where something in it is hidden, what lies beside that.

    Args:
        root, hidden: real paths.
    """
    if any(_is_below(root, path) for path in hidden):
        return []
    if not any(_is_below(path, root) for path in hidden):
        return [root]
    try:
        inside = [entry.path for entry in os.scandir(root) if not entry.is_symlink()]
    except OSError:
        return []
    return [path for entry in sorted(inside) for path in without(entry, hidden)]


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _disks() -> list[str]:
    """Block devices: who reads them past the file system needs no permission for a file."""
    found = []
    for entry in os.scandir("/dev"):
        try:
            if stat.S_ISBLK(entry.stat(follow_symlinks=False).st_mode):
                found.append(entry.path)
        except OSError:
            continue
    return found


def programs() -> list[str]:
    """Folders of the system's programs, of this Python and its packages, of CUDA and kernels."""
    found = [*SYSTEM, sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix]
    found += [*site.getsitepackages(), site.getusersitepackages()]
    found.append(str(Path(sys.executable).resolve().parent.parent))
    for name in PATHS:
        # An empty entry means the current folder, which is nothing to rely on.
        found += [path for path in (environment(name) or "").split(os.pathsep) if path[:1] == "/"]
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            found.append(str(Path(spec.origin).parent))
    home = environment("HF_HOME") or os.path.expanduser("~/.cache/huggingface")
    for cache in (environment("KERNELS_CACHE"), environment("HF_HUB_CACHE"), f"{home}/hub"):
        with suppress(PermissionError):  # a home of somebody else
            found += [str(path) for path in Path(cache).glob(KERNELS)] if cache else []
    # "/" as a prefix would grant everything.
    return [path for path in dict.fromkeys(found) if os.path.realpath(path) != "/"]
