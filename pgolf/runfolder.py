"""The folder of one run: what was asked for, what ran, what was measured, what would be shipped."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pgolf.errors import UserError
from pgolf.files import atomic_writer, explain_os_error, write_json


def make_run_folder(out_dir: Path, name: str) -> Path:
    """Create `out_dir/name/<timestamp>-<id>/` and return it, absolute.

    Raises:
        UserError: the folder cannot be created.
    """
    parent = (out_dir / name).resolve()
    while True:
        folder = parent / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(2).hex()}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not parent.is_dir():
                raise UserError(
                    f"cannot create {folder}: {nearest_existing(parent)} is a file; choose another "
                    "out_dir=... or remove it"
                ) from None
            continue
        except NotADirectoryError:
            raise UserError(
                f"cannot create {folder}: {nearest_existing(parent)} is a file; choose another "
                "out_dir=..."
            ) from None
        except OSError as error:
            raise explain_os_error(error, folder) from error
        return folder


def nearest_existing(folder: Path) -> Path:
    """The folder, or the closest place above it that is there."""
    return next(path for path in (folder, *folder.resolve().parents) if path.exists())


def check_writable(folder: Path, setting: str) -> None:
    """Create a folder and write a byte into it.

    Raises:
        UserError: that is not possible; names the setting that chooses the folder.
    """
    probe = folder / f".writable-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{folder} is no folder: choose another one by {setting}") from None
    except OSError as error:
        explained = explain_os_error(error, folder)
        if explained is not error:
            raise explained from error
        raise UserError(
            f"cannot write {folder}: {error.strerror}; choose another folder by {setting}"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def describe_run(
    folder: Path, config: dict[str, Any], overrides: list[str], provenance: dict[str, Any]
) -> None:
    """Write config.yaml, overrides.txt and provenance.json."""
    with atomic_writer(folder / "config.yaml", "w") as file:
        file.write(OmegaConf.to_yaml(config))
    with atomic_writer(folder / "overrides.txt", "w") as file:
        file.writelines(f"{override}\n" for override in overrides)
    write_json(folder / "provenance.json", provenance)


def link_artifact(packed: Path, folder: Path) -> Path:
    """Hard-link (or copy) the shipped files into `folder/artifact`; returns that path."""
    target = folder / "artifact"
    target.mkdir(exist_ok=True)
    for source in sorted(packed.iterdir()):
        link_or_copy(source, target / source.name)
    return target


def link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        with atomic_writer(target) as file:
            file.write(source.read_bytes())
