"""The audit hook: what Python itself opens and connects, where the kernel offers nothing better.

Code that calls the C library, and programs other than Python, go past it. This file is copied as
`sitecustomize.py` into a folder of its own, so that every Python process of the sandbox begins with
it; it imports nothing of pgolf.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
AF_UNIX = 1


def install(grants: dict[str, bool], network: str) -> None:
    """Refuse what is not granted from now on.

    Args:
        grants: real paths, each with whether what is below it may be written, too.
        network: "none" refuses every connection, "loopback" and "world" those to other hosts.
    """

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            _check_open(grants, *args)
        elif event in ("os.link", "os.rename", "os.symlink"):
            for path in args[:2]:
                _check(grants, path, False)
        elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            _check_address(network, *args[:2])

    sys.addaudithook(hook)


def _check_open(roots: dict[str, bool], path: Any, mode: Any, flags: Any) -> None:
    if isinstance(path, int):
        return
    writes = bool(isinstance(flags, int) and flags & WRITING)
    _check(roots, path, writes or (isinstance(mode, str) and bool(set(mode) & set("wax+"))))


def _check(roots: dict[str, bool], path: Any, writes: bool) -> None:
    place = os.path.realpath(os.fsdecode(path))
    while True:
        if roots.get(place, False) or (place in roots and not writes):
            return
        above = os.path.dirname(place)
        if above == place:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fsdecode(path))
        place = above


def _check_address(network: str, socket: Any, address: Any) -> None:
    if socket.family == AF_UNIX:
        return
    host = address[0] if isinstance(address, tuple) and address else None
    near = isinstance(host, str) and (host.startswith("127.") or host in ("::1", "localhost"))
    if network == "none" or not near:
        raise PermissionError(errno.EACCES, f"no connection to {address} from here")
