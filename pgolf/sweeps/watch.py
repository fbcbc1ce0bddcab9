"""A job in a process of its own ends with the launcher of its sweep, whatever ended that."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

LAUNCHER = "PGOLF_LAUNCHER"
POLL_S = 0.25
# A job that ends its workers takes up to twice pgolf.workers.GRACE_S.
FORCE_S = 10.0


def announce() -> None:
    """In the launcher: name this process to the jobs that come from it."""
    os.environ[LAUNCHER] = f"{os.getpid()} {_started(os.getpid())}"


def end_with_launcher() -> None:
    """In a job: when the launcher goes away, do as if Ctrl-C had been pressed.

    In the launcher's own process, or on a machine where it never was, nothing is done.
    """
    pid, _, started = os.environ.get(LAUNCHER, "").partition(" ")
    if not pid or int(pid) == os.getpid() or _started(int(pid)) != started:
        return
    if threading.current_thread() is threading.main_thread():
        # A background shell hands down an ignored Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if any(thread.name == LAUNCHER for thread in threading.enumerate()):
        return  # a process that runs one job after another
    threading.Thread(target=_watch, args=(int(pid), started), name=LAUNCHER, daemon=True).start()


def leave_orphan() -> None:
    """After a job was interrupted: end this process if nobody is left who waits for it."""
    pid, _, started = os.environ.get(LAUNCHER, "").partition(" ")
    watched = any(thread.name == LAUNCHER for thread in threading.enumerate())
    if watched and _started(int(pid)) != started:
        os._exit(130)


def _watch(pid: int, started: str) -> None:
    wait = threading.Event().wait
    while _started(pid) == started:
        wait(POLL_S)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    wait(FORCE_S)
    os._exit(130)


def _started(pid: int) -> str:
    """When a living process began, in the system's ticks, "" if there is none such."""
    try:
        after_name = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        )
        return "" if after_name[0] == "Z" else after_name[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:  # no Linux: at least whether there is one
        os.kill(pid, 0)
    except OSError:
        return ""
    return "alive"
