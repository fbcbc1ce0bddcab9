"""A network namespace: this process and its children see a loopback interface and nothing else."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

NEWUSER, NEWNET = 0x10000000, 0x40000000
GET_FLAGS, SET_FLAGS, UP = 0x8913, 0x8914, 1
PR_CAPBSET_DROP = 24
# With these root could go back to the namespace outside, or read disks past the file system:
# DAC_READ_SEARCH, SYS_MODULE, SYS_RAWIO, SYS_PTRACE, SYS_ADMIN, MKNOD.
DANGEROUS = (2, 16, 17, 19, 21, 27)


def enter(loopback: bool) -> None:
    """Leave the network, for good.

    It is tried in a child first: a system may allow the namespace but not its loopback interface,
    and there is no way back.

    Args:
        loopback: switch the loopback interface on.

    Raises:
        OSError: the system does not allow it.
    """
    child = os.fork()
    if child == 0:
        try:
            _enter(loopback)
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 255)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != 0:
        raise OSError(code, f"no network namespace: {os.strerror(code)}")
    _enter(loopback)


def _enter(loopback: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    # Root keeps its right to all files by staying in its user namespace.
    if user == 0 and libc.unshare(NEWNET) == 0:
        if loopback:
            _switch_on("lo")
        for capability in DANGEROUS:
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # takes effect with the next exec
    elif libc.unshare(NEWUSER | NEWNET) == 0:
        _map("setgroups", "deny")
        _map("uid_map", f"{user} {user} 1")
        _map("gid_map", f"{group} {group} 1")
        if loopback:
            _switch_on("lo")
    else:
        raise OSError(ctypes.get_errno(), "unshare")
    names = [name for _, name in socket.if_nameindex()]
    if names != ["lo"]:
        raise OSError(1, f"the new namespace has the interfaces {names}")


def _map(name: str, text: str) -> None:
    with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
        file.write(text)


def _switch_on(name: str) -> None:
    request = struct.pack("16sh14x", name.encode(), 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        (flags,) = struct.unpack_from("h", fcntl.ioctl(control, GET_FLAGS, request), 16)
        fcntl.ioctl(control, SET_FLAGS, struct.pack("16sh14x", name.encode(), flags | UP))
