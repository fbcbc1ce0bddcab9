"""hub.json: which files of a hub repository belong in a folder, and which lie there, checked.

It is written before the first byte is fetched, so that a run knows what its data will be (sizes and
hashes) while a download is still to come, and an interrupted download knows what is left.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pgolf.errors import UserError
from pgolf.files import sha256_file, write_json

RECORD, SCHEMA = "hub.json", 1
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class RemoteFile:
    """A file as the hub lists it.

    Args:
        path: in the repository.
        size: bytes.
        sha256: of large files (LFS, Xet); None for those that lie in git itself.
        blob_sha1: git's hash of the content, with git's own prefix; of large files that of a
            pointer, which says nothing about the content.
    """

    path: str
    size: int
    sha256: str | None
    blob_sha1: str

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def digest(self) -> str:
        """Names the content."""
        return self.sha256 or self.blob_sha1

    def fault(self, path: Path) -> str | None:
        """What is wrong with a copy, None if it is whole."""
        size = path.stat().st_size
        if size != self.size:
            return f"{size} bytes instead of {self.size}"
        found = sha256_file(path) if self.sha256 else git_blob_sha1(path)
        if found != self.digest:
            kind = "sha256" if self.sha256 else "git hash"
            return f"{kind} {found[:12]}... instead of {self.digest[:12]}..."
        return None


def git_blob_sha1(path: Path) -> str:
    """The hash by which git names a file's content."""
    state = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            state.update(block)
    return state.hexdigest()


@dataclass
class Record:
    """What belongs in a folder.

    Args:
        repository: on the hub, `owner/name`.
        revision: commit that the files are of.
        files: by the name that each has in the folder.
        checked: modification time (ns) of each file whose content was compared with the hub's.
        name: of the set, for `pgolf data get`; "" where an earlier version wrote the record.
    """

    repository: str
    revision: str
    files: dict[str, RemoteFile]
    checked: dict[str, int] = field(default_factory=dict)
    name: str = ""

    @classmethod
    def load(cls, folder: Path) -> Record | None:
        """None where there is none.

        Raises:
            UserError: it cannot be understood.
        """
        path = folder / RECORD
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if values.pop("schema") == SCHEMA:
                files = {name: RemoteFile(**file) for name, file in values.pop("files").items()}
                return cls(files=files, **values)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} cannot be read ({error}): remove it; files beside it are kept and checked "
                "again by `pgolf data get`"
            ) from error
        raise UserError(f"{path} is of another version of pgolf: remove it")

    def save(self, folder: Path) -> None:
        files = {name: asdict(file) for name, file in self.files.items()}
        write_json(folder / RECORD, {"schema": SCHEMA, **vars(self), "files": files})

    def is_checked(self, folder: Path, name: str) -> bool:
        """Whether a file lies there and has not changed since its content was compared."""
        try:
            facts = (folder / name).stat()
        except OSError:
            return False
        return facts.st_size == self.files[name].size and facts.st_mtime_ns == self.checked.get(
            name
        )

    def has_changed(self, folder: Path, name: str) -> bool:
        """Whether a file was compared once and is another now."""
        there = name in self.checked and (folder / name).exists()
        return there and not self.is_checked(folder, name)

    def after(self, earlier: Record | None, folder: Path) -> Record:
        """This record with what an earlier one knows: files of the same content stay checked.

        Files that only the earlier one lists stay listed where they lie checked.
        """
        if earlier is None or earlier.repository != self.repository:
            return self
        lying = {name for name in earlier.files if earlier.is_checked(folder, name)}
        files = {name: earlier.files[name] for name in lying} | self.files
        checked = {
            name: earlier.checked[name]
            for name in lying
            if files[name].digest == earlier.files[name].digest
        }
        return replace(self, files=dict(sorted(files.items())), checked=checked)
