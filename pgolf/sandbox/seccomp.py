"""seccomp: this process and its children make local sockets only, and stay in their group."""

from __future__ import annotations

import ctypes
import errno
import platform
import socket
import struct

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, FILTER = 22, 38, 2
# By machine: the kernel's name of it, then the numbers of socket, setpgid, setsid.
MACHINES = {
    "x86_64": (0xC000003E, 41, 109, 112),
    "aarch64": (0xC00000B7, 198, 154, 157),
}
IO_URING_SETUP, X32 = 425, 0x40000000  # io_uring opens sockets without the system call
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
AT_NUMBER, AT_MACHINE, AT_ARGUMENT = 0, 4, 16
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EACCES


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def restrict() -> None:
    """Refuse sockets other than AF_UNIX, setsid and setpgid, for good.

    Raises:
        OSError: the kernel refuses, or the machine is none that is known here.
    """
    code = program(platform.machine())
    libc = ctypes.CDLL(None, use_errno=True)
    filled = _Program(len(code) // 8, code)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
    if libc.prctl(PR_SET_SECCOMP, FILTER, ctypes.byref(filled), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")


def program(machine: str) -> bytes:
    """The filter as instructions of 8 bytes.

    Raises:
        OSError: an unknown machine.
    """
    if machine not in MACHINES:
        raise OSError(errno.ENOSYS, f"no seccomp filter for {machine}")
    name, make_socket, setpgid, setsid = MACHINES[machine]
    refused = (setpgid, setsid, IO_URING_SETUP)
    # The last three: look at the family of a socket, refuse, allow. Jumps count what is skipped.
    tail = [(EQUAL, 1, 0, socket.AF_UNIX), (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)]
    head = [(LOAD, 0, 0, AT_MACHINE), (EQUAL, 1, 0, name), (RETURN, 0, 0, REFUSE)]
    middle = [(LOAD, 0, 0, AT_NUMBER)]
    checks = [(AT_LEAST, X32), *((EQUAL, number) for number in refused)]
    for index, (test, number) in enumerate(checks):
        # Left after this: the other checks, the one for sockets, its load, then the tail.
        middle.append((test, len(checks) - 1 - index + 3, 0, number))
    middle += [(EQUAL, 0, 3, make_socket), (LOAD, 0, 0, AT_ARGUMENT)]
    rows = [*head, *middle, *tail]
    return b"".join(struct.pack("HBBI", *row) for row in rows)
