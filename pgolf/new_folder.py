"""Folders that a command writes for its user: a new one, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pgolf.errors import UserError
from pgolf.files import explain_os_error

T = TypeVar("T")


def check_new(folder: Path) -> None:
    """Raises UserError when something is there already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already and not empty: name a new folder")


def write_whole(folder: Path, fill: Callable[[Path], T]) -> T:
    """Call `fill` with a folder beside `folder`, which it becomes when all went well."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as made:
            work = Path(made) / folder.name
            work.mkdir()
            answer = fill(work)
            if folder.exists():
                folder.rmdir()
            os.replace(work, folder)
    except OSError as error:
        raise explain_os_error(error, folder) from error
    return answer
