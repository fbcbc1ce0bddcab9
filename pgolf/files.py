"""Writing files so that a reader never meets a half-written one, and hashing them."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pgolf.errors import UserError

# A file stands where a folder should be, a name is too long, or permissions are missing.
UNWRITABLE = {
    *(errno.EACCES, errno.EROFS, errno.EPERM),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
}


@contextmanager
def atomic_writer(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; on success it replaces `path`, on failure it is removed.

    Raises:
        UserError: the disk is full or the folder cannot be written, naming the path.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    encoding = None if "b" in mode else "utf-8"
    try:
        with open(partial, mode, encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        # Removing fails as well where the folder is no folder; the first error is the one to tell.
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError):
            raise explain_os_error(error, path) from error
        raise


def explain_os_error(error: OSError, path: Path) -> Exception:
    """A full disk or an unwritable place as a `UserError` with its remedy; others unchanged."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"no space left on the disk while writing {path}: free some space there, or point "
            "PGOLF_CACHE, PGOLF_DATA or out_dir=... to another disk, and run the same command "
            "again; finished stages are kept"
        )
    if error.errno in UNWRITABLE:
        return UserError(f"cannot write {path}: {error.strerror}; choose a writable folder")
    return error


@contextmanager
def locked(path: Path, busy: Callable[[], None]) -> Iterator[None]:
    """Hold a lock file; `busy` is called when another process has it, and then this one waits.

    Raises:
        UserError: the file cannot be made. What `busy` raises ends the wait before it begins.
    """
    try:
        file = open(path, "w")  # noqa: SIM115
    except OSError as error:
        raise explain_os_error(error, path) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_json(path: Path, value: Any) -> None:
    with atomic_writer(path, "w") as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.write("\n")


def sha256_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hash of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
