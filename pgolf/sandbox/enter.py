"""Runs between the launcher and the process: restricts itself, says how, and becomes the process.

Started as `python -I -S -c START FD`; reads its order from that file, writes what it did into the
pipe that the order names. It imports neither torch nor anything else that is installed.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
from typing import Any

from pgolf.sandbox import landlock, namespace, seccomp

NOT_ENFORCED = "not enforced"
LANDLOCK, NAMESPACE, SECCOMP, HOOK = "landlock", "namespace", "seccomp", "audit hook"
PR_SET_PDEATHSIG = 1
LIMITS = {
    "memory_bytes": resource.RLIMIT_AS,
    "cpu_s": resource.RLIMIT_CPU,
    "file_bytes": resource.RLIMIT_FSIZE,
    "open_files": resource.RLIMIT_NOFILE,
}
TRY_OPEN = "import sys; open(sys.argv[1], 'rb').close()"
TRY_CONNECT = "import socket; socket.socket().connect(('192.0.2.1', 9))"


def main() -> None:
    """Restrict, report, execute."""
    with os.fdopen(int(sys.argv[1]), encoding="utf-8") as file:
        order = json.load(file)
    # A pipe's reader waits for its end: the process itself must not hold it open.
    os.set_inheritable(order["report"], False)
    # Leaving a user namespace's parent forgets this; the launcher asked for it before.
    if order["ends_with_launcher"]:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    report = restrict(order)
    for name, value in order["limits"].items():
        resource.setrlimit(LIMITS[name], (value, value))
    os.write(order["report"], json.dumps(report).encode())
    os.close(order["report"])
    os.execve(order["command"][0], order["command"], order["environment"])


def restrict(order: dict[str, Any]) -> dict[str, Any]:
    """Take the best layers that work here.

    Returns:
        `filesystem`, `network`: name of the layer; `reasons`: why better ones are not it.
    """
    reasons: list[str] = []
    allowed = order["layers"]
    network = _network(order, allowed, reasons)
    files = NOT_ENFORCED
    if LANDLOCK in allowed:
        try:
            if landlock.version() < 1:
                raise OSError("the kernel has no Landlock")
            landlock.restrict(order["grants"], tcp=order["network"] != "none")
            _refuses_to_open(order["canary"])
            files = LANDLOCK
        except OSError as error:
            reasons.append(f"{LANDLOCK}: {error}")
    if order["network"] == "none" and SECCOMP in allowed:
        try:
            seccomp.restrict()
            network = SECCOMP if network == NOT_ENFORCED else network
        except OSError as error:
            reasons.append(f"{SECCOMP}: {error}")
    if HOOK in allowed and NOT_ENFORCED in (files, network):
        files, network = _hook(order, files, network, reasons)
    return {"filesystem": files, "network": network, "reasons": reasons}


def _network(order: dict[str, Any], allowed: list[str], reasons: list[str]) -> str:
    if NAMESPACE not in allowed:
        return NOT_ENFORCED
    if order["network"] == "world":
        reasons.append(f"{NAMESPACE}: workers of several launchers have to reach each other")
        return NOT_ENFORCED
    try:
        namespace.enter(loopback=order["network"] == "loopback")
    except OSError as error:
        reasons.append(f"{NAMESPACE}: {error}")
        return NOT_ENFORCED
    # The only interface that there is now, whatever was configured for the one outside.
    order["environment"] |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    # Each worker would warn that nobody can tell it the name of 127.0.0.1.
    order["environment"].setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    return NAMESPACE


def _refuses_to_open(path: str) -> None:
    try:
        os.close(os.open(path, os.O_RDONLY))
    except PermissionError:
        return
    raise OSError(f"{path} can be opened nevertheless")


def _hook(order: dict[str, Any], files: str, network: str, reasons: list[str]) -> tuple[str, str]:
    """Let every Python process below begin with the hook, and try it in one."""
    environment = order["environment"]
    rest = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (order["hook"], rest)))
    for code, what in ((TRY_OPEN, "files"), (TRY_CONNECT, "network")):
        if (files if what == "files" else network) != NOT_ENFORCED:
            continue
        tried = [sys.executable, "-P", "-c", code, order["canary"]]
        done = subprocess.run(tried, env=environment, capture_output=True, check=False)
        if b"PermissionError" not in done.stderr:
            reasons.append(f"{HOOK}: it does not refuse, {what}")
        elif what == "files":
            files = HOOK
        else:
            network = HOOK
    return files, network
