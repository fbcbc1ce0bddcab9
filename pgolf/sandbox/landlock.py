"""Landlock: this process and its children open only what lies below granted paths (Linux 5.13)."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Mapping

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # system calls, the same on every machine
VERSION_FLAG, PATH_BENEATH = 1, 1
PR_SET_NO_NEW_PRIVS = 38

WRITE_FILE, READ_FILE, READ_DIR = 1 << 1, 1 << 2, 1 << 3
REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))
REFER, TRUNCATE = 1 << 13, 1 << 14  # since versions 2 and 3
READ = READ_FILE | READ_DIR
OF_FILES = READ_FILE | WRITE_FILE | TRUNCATE
NET = 0b11  # bind and connect of TCP, since version 4


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def version() -> int:
    """What the kernel offers; 0 where it has no Landlock or it is switched off."""
    return max(0, int(_libc().syscall(CREATE_RULESET, None, 0, VERSION_FLAG)))


def restrict(grants: Mapping[str, bool], tcp: bool) -> None:
    """Restrict this process, for good. Executing is not restricted, nor are ioctls of devices.

    Args:
        grants: paths, each with whether what is below it may be written, too.
        tcp: False refuses every TCP connection, where the kernel can.

    Raises:
        OSError: the kernel refuses.
    """
    offered = version()
    write = WRITE_FILE | REMOVE_AND_MAKE
    write |= REFER if offered >= 2 else 0
    write |= TRUNCATE if offered >= 3 else 0
    net = NET if offered >= 4 and not tcp else 0
    ruleset = _Ruleset(READ | write, net)
    size = ctypes.sizeof(ruleset) if offered >= 4 else 8
    rules = _call(CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), 0)
    try:
        for path, writes in grants.items():
            _add(rules, path, READ | write if writes else READ)
        _no_new_privileges()
        _call(RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _add(rules: int, path: str, allowed: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # not on this machine, or not for this user: nothing to grant
        return
    try:
        if not stat.S_ISDIR(os.fstat(parent).st_mode):
            allowed &= OF_FILES
        rule = _Beneath(allowed, parent)
        _call(ADD_RULE, rules, PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(parent)


def _no_new_privileges() -> None:
    if _libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")


def _call(number: int, *arguments: object) -> int:
    result = int(_libc().syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock, system call {number}")
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
