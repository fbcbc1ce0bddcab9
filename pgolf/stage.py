"""Finished stages, addressed by what went into them: found, locked, published whole, checked.

An entry is a folder `ROOT/STAGE/KEY/` with the stage's files and `done.json`, which lists every
file with its size and sha256. It is made in `KEY.work/` beside it and renamed when it is whole, so
a killed stage leaves its checkpoints there for the same command to continue from.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pgolf.files import explain_os_error, sha256_file, sha256_json, write_json

DONE = "done.json"
CODE = Path(__file__).resolve().parent


def stage_key(stage: str, packages: tuple[str, ...], **inputs: Any) -> str:
    """Key of a stage: its settings, the keys of its inputs and the source of the code it runs.

    Args:
        stage: name of the stage.
        packages: folders and modules of pgolf whose change changes the outcome.
        inputs: JSON values.
    """
    return sha256_json({"stage": stage, "code": _code_hash(packages), **inputs})[:24]


def _code_hash(packages: tuple[str, ...]) -> str:
    files = sorted(p for name in packages for p in [*CODE.glob(f"{name}/**/*.py"), CODE / f"{name}.py"])
    return sha256_json({str(p.relative_to(CODE)): sha256_file(p) for p in files if p.is_file()})


class Stage:
    """One entry of the cache.

    Args:
        root: the cache.
        name: the stage, e.g. "train".
        key: from `stage_key`.
        say: where notices go, e.g. that an entry is damaged.
    """

    def __init__(self, root: Path, name: str, key: str, say: Any = print) -> None:
        self.name, self.key = name, key
        self.folder = root / name / key
        self.work = root / name / f"{key}.work"
        self._say = say

    def find(self) -> dict[str, Any] | None:
        """The stage's information when it is finished and whole, else None.

        A damaged entry is named, set aside and None returned, so that it is built again.
        """
        record = self.folder / DONE
        if not record.exists():
            return None
        fault = _fault(self.folder, record)
        if fault is None:
            return json.loads(record.read_text(encoding="utf-8"))["info"]  # type: ignore[no-any-return]
        aside = self.folder.with_name(f"{self.key}.damaged-{time.time_ns()}")
        os.replace(self.folder, aside)
        self._say(f"cache entry {self.folder} is damaged ({fault}): set aside as {aside.name}, rebuilding")
        return None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the key; another process that wants it waits here (and says so)."""
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            file = open(self.folder.with_name(f"{self.key}.lock"), "w")  # noqa: SIM115
        except OSError as error:
            raise explain_os_error(error, self.work) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._say(f"{self.name}: waiting for another run that is making the same result")
                fcntl.flock(file, fcntl.LOCK_EX)
            self.work.mkdir(parents=True, exist_ok=True)
            yield

    def publish(self, info: dict[str, Any]) -> dict[str, Any]:
        """Make the work folder the entry, atomically; returns `info`."""
        files = {
            str(path.relative_to(self.work)): {
                "bytes": path.stat().st_size,
                "sha256": sha256_file(path),
            }
            for path in sorted(self.work.rglob("*"))
            if path.is_file()
        }
        write_json(self.work / DONE, {"stage": self.name, "files": files, "info": info})
        if self.folder.exists():
            shutil.rmtree(self.folder)
        os.replace(self.work, self.folder)
        return info

    def discard_work(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)


def _fault(folder: Path, record: Path) -> str | None:
    """What is wrong with an entry, or None."""
    try:
        files = json.loads(record.read_text(encoding="utf-8"))["files"]
    except (ValueError, KeyError):
        return f"{DONE} cannot be read"
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["bytes"]:
            return f"{name} has {path.stat().st_size} bytes instead of {expected['bytes']}"
        if sha256_file(path) != expected["sha256"]:
            return f"{name} has another sha256 than when it was written"
    return None
