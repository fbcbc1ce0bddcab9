"""Finished stages, addressed by what went into them: found, locked, published whole, checked.

An entry is a folder `ROOT/STAGE/KEY/` with the stage's files and `done.json`, which lists every
file with its size and sha256 and holds a hash of itself. It is made in `KEY.work/` beside it and
renamed when it is whole, so a killed stage leaves its checkpoints there, in `scratch/`, for the
same command to continue from.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from pgolf.clock import Clock
from pgolf.files import explain_os_error, locked, sha256_file, sha256_json, write_json
from pgolf.signature import source_file

DONE = "done.json"
# In a work folder: what a killed stage continues from. No part of the entry.
SCRATCH = "scratch"
CODE = Path(__file__).resolve().parent


def stage_key(stage: str, packages: tuple[str, ...], **inputs: Any) -> str:
    """Key of a stage: its settings, the keys of its inputs and the source of the code it runs.

    Args:
        stage: name of the stage.
        packages: folders and modules of pgolf whose change changes the outcome.
        inputs: JSON values.
    """
    return sha256_json({"stage": stage, "code": _code_hash(packages), **inputs})[:24]


def outside_code(*nodes: Any) -> dict[str, str]:
    """Hash of the source behind each `_target_` in settings that no package of pgolf has.

    Of a module in a package it is that of all modules beside it. What those import from elsewhere
    is not seen.
    """
    found: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, dict):
            target = node.get("_target_")
            if target and not target.startswith("pgolf."):
                found[target] = source_hash(target)
            node = list(node.values())
        if isinstance(node, list):
            found |= outside_code(*node)
    return found


def source_hash(target: str) -> str:
    """Hash of the module that a dotted path names, and of its neighbours in a package."""
    path = source_file(target)
    in_package = (path.parent / "__init__.py").is_file()
    files = sorted(path.parent.glob("*.py")) if in_package else [path]
    return sha256_json({file.name: sha256_file(file) for file in files})


def _code_hash(packages: tuple[str, ...]) -> str:
    files: set[Path] = set()
    for name in packages:
        found = {p for p in [*CODE.glob(f"{name}/**/*.py"), CODE / f"{name}.py"] if p.is_file()}
        assert found, f"pgolf has no package or module {name}: its changes would not be noticed"
        files |= found
    return sha256_json({str(path.relative_to(CODE)): sha256_file(path) for path in files})


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
        self.waited_s = 0.0  # for another process, in `lock`

    def find(self) -> dict[str, Any] | None:
        """The stage's information when it is finished and whole, else None.

        A damaged entry is named, set aside and None returned, so that it is built again.
        """
        if not self.folder.exists():
            return None
        try:
            info = _read_entry(self.folder)
            with suppress(OSError):  # when it was last used; a cache may be readable only
                os.utime(self.folder / DONE)
            return info
        except _DamagedError as damage:
            fault = damage
        aside = self.folder.with_name(f"{self.key}.damaged-{time.time_ns()}")
        os.replace(self.folder, aside)
        self._say(
            f"cache entry {self.folder} is damaged ({fault}): set aside as {aside.name}, rebuilding"
        )
        return None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the key; another process that wants it waits here (and says so)."""
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain_os_error(error, self.work) from error
        clock = Clock({})
        with ExitStack() as waiting:

            def busy() -> None:
                self._say(f"{self.name}: waiting for another run that is making the same result")
                waiting.enter_context(clock.phase("wait", "wait"))

            with locked(self.folder.with_name(f"{self.key}.lock"), busy):
                waiting.close()
                self.waited_s = round(clock.seconds("wait"), 3)
                self.work.mkdir(parents=True, exist_ok=True)
                yield

    def publish(self, info: dict[str, Any]) -> dict[str, Any]:
        """Make the work folder the entry, atomically; returns `info` as `find` will."""
        for path in self.work.rglob(".*.partial"):  # what a killed writer left
            path.unlink()
        files = {
            str(path.relative_to(self.work)): {
                "bytes": path.stat().st_size,
                "sha256": sha256_file(path),
            }
            for path in sorted(self.work.rglob("*"))
            if path.is_file() and SCRATCH not in path.relative_to(self.work).parts
        }
        entry = json.loads(json.dumps({"stage": self.name, "files": files, "info": info}))
        write_json(self.work / DONE, {**entry, "sha256": sha256_json(entry)})
        if self.folder.exists():
            shutil.rmtree(self.folder)
        os.replace(self.work, self.folder)
        # Only now: a stage that is killed before can still continue from it.
        shutil.rmtree(self.folder / SCRATCH, ignore_errors=True)
        published: dict[str, Any] = entry["info"]
        return published

    def empty_work(self) -> None:
        """Begin anew, for a stage that does not continue from what a killed one left."""
        self.discard_work()
        self.work.mkdir(parents=True)

    def discard_work(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)


class _DamagedError(Exception):
    """An entry is not what was published; the message says in what."""


def _read_entry(folder: Path) -> dict[str, Any]:
    """The information of an entry whose record and files are those that were published."""
    if not (folder / DONE).is_file():
        raise _DamagedError(f"{DONE} is missing")
    try:
        entry = json.loads((folder / DONE).read_text(encoding="utf-8"))
        expected_sha256 = entry.pop("sha256")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise _DamagedError(f"{DONE} cannot be read") from error
    if sha256_json(entry) != expected_sha256:
        raise _DamagedError(f"{DONE} has another content than when it was written")
    for name, expected in entry["files"].items():
        path = folder / name
        if not path.is_file():
            raise _DamagedError(f"{name} is missing")
        if path.stat().st_size != expected["bytes"]:
            size = path.stat().st_size
            raise _DamagedError(f"{name} has {size} bytes instead of {expected['bytes']}")
        if sha256_file(path) != expected["sha256"]:
            raise _DamagedError(f"{name} has another sha256 than when it was written")
    info: dict[str, Any] = entry["info"]
    return info
