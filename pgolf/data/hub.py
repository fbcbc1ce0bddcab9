"""Published sets from the Hugging Face hub: what belongs in a folder, what is missing, fetch it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgolf.data import hub_client
from pgolf.data.hub_record import RECORD, Record, RemoteFile
from pgolf.data.hub_transfer import fetch_all, patiently, refusal
from pgolf.errors import UserError
from pgolf.files import explain_os_error, locked
from pgolf.progress import track

Choose = Callable[[list[RemoteFile]], list[RemoteFile]]
LOCK = ".download.lock"
ROOT = "datasets/"  # where the published downloader looks first in a repository (data/README.md)


@dataclass(frozen=True)
class Place:
    """A set and where it goes.

    Args:
        name: of the set, as `pgolf data get` and `data=` know it.
        repository: on the hub, `owner/name`.
        folder: where its files go, without sub-folders.
        content: what belongs there, in words, for messages.
        shards: training shards that were asked for; None where there are none, or the usual ones.
    """

    name: str
    repository: str
    folder: Path
    content: str
    shards: int | None = None

    def by_hand(self) -> str:
        """How to bring the files without a connection."""
        command = get_command(self.name, self.shards, "FOLDER")
        return (
            "with a connection the same command fetches what it needs; without one, run "
            f"`{command}` on a machine that has one and copy all of FOLDER to {self.folder}, "
            f"which needs {self.content} of {hub_client.endpoint()}/datasets/{self.repository}; or "
            "use data=embedded or data=local data.path=..."
        )

    def missing(self, names: list[str]) -> str:
        """What is missing, in words."""
        known = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        return f"{self.folder}: files of {self.name} are missing ({known or self.content})"


def plan(place: Place, choose: Choose, missing: list[str], offline: bool = False) -> Record:
    """Ask the hub what belongs in the folder and write it down in hub.json; nothing is fetched.

    Args:
        choose: picks the set's files out of the repository's.
        missing: names known to be missing, for messages.
        offline: ask nobody.

    Raises:
        UserError: offline, or the hub does not answer (within 2 s), has no such set, or refuses;
            says what to copy where by hand.
    """
    if why := why_offline(place, offline):
        raise UserError(f"{place.missing(missing)}, and {why}: {place.by_hand()}")
    try:
        revision, listed = patiently(
            lambda: hub_client.list_files(place.repository), hub_client.is_passing
        )
    except hub_client.transport_errors() as error:
        what = f"data set {place.repository} cannot be listed"
        raise refusal(error, place.repository, what) from error
    files = {file.name: file for file in choose(listed)}
    record = Record(place.repository, revision, files, name=place.name)
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, place.folder) from error
    record = record.after(Record.load(place.folder), place.folder)
    record.save(place.folder)
    return record


def fetch(place: Place, record: Record, names: list[str], show: bool) -> list[str]:
    """Bring files of a record to its folder; returns those that were not there, checked, already.

    Raises:
        UserError: they do not fit on the disk, or cannot be fetched; without a connection known
            within 2 s and the time that comparing takes.
    """
    if all(record.is_checked(place.folder, name) for name in names):
        return []
    with _alone(place.folder, show):
        # Another process may have fetched some meanwhile.
        record = record.after(Record.load(place.folder), place.folder)
        wanted = [name for name in names if not record.is_checked(place.folder, name)]
        if wanted and (why := why_offline(place)):
            require_whole(place, record, wanted, why)
            return []
        _check_space(place.folder, [record.files[name] for name in wanted])
        if wanted:
            fetch_all(place.folder, record, wanted, show)
    return wanted


def told_offline(offline: bool = False) -> str | None:
    """Who says that the hub is not to be asked; None where nobody does."""
    if offline:
        return "--offline"
    return "HF_HUB_OFFLINE is set" if hub_client.is_offline() else None


def why_offline(place: Place, offline: bool = False) -> str | None:
    """Why nothing can be fetched now, known within 2 s; None where the hub answers."""
    if why := told_offline(offline):
        return why
    try:
        patiently(lambda: hub_client.knock(place.repository), hub_client.has_hung_up)
    except hub_client.transport_errors() as error:
        reason = str(error) or type(error).__name__
        return f"{hub_client.endpoint()} does not answer ({reason})"
    return None


def compare(folder: Path, record: Record, names: list[str]) -> dict[str, str]:
    """Compare those files that lie there and are not known to be whole; notes the whole ones.

    Returns:
        what is wrong with those that are another content; they stay as they are.
    """
    there = [name for name in names if (folder / name).is_file()]
    unknown, wrong = [name for name in there if not record.is_checked(folder, name)], {}
    if not unknown:
        return {}
    total = sum((folder / name).stat().st_size for name in unknown) / 1e6
    with track("compare", total, "MB") as bar:
        for name in unknown:
            path = folder / name
            if fault := record.files[name].fault(path):
                wrong[name] = fault
            else:
                record.checked[name] = path.stat().st_mtime_ns
            bar.advance(path.stat().st_size / 1e6, name)
    record.save(folder)
    return wrong


def recheck(folder: Path) -> None:
    """Compare files once more whose time is another than when they were compared (copies, say).

    Those that are another content stay as they are: the documents step fetches them again.
    """
    if record := Record.load(folder):
        changed = [name for name in record.files if record.has_changed(folder, name)]
        compare(folder, record, changed)


def require_whole(place: Place, record: Record, names: list[str], why: str) -> None:
    """Compare files where nothing can be fetched.

    Args:
        why: nothing can, see `why_offline`.

    Raises:
        UserError: names one that is missing or is another content.
    """
    missing = [name for name in names if not (place.folder / name).is_file()]
    if missing:
        raise UserError(f"{place.missing(missing)}, and {why}: {place.by_hand()}")
    for name, fault in compare(place.folder, record, names).items():
        raise UserError(
            f"{place.folder / name}: {fault}, so it is damaged or another file, and {why}: "
            f"{place.by_hand()}; to use files of your own, remove {place.folder / RECORD}"
        )


def get_command(name: str, shards: int | None, folder: str) -> str:
    """The command that fetches a set, as a user types it."""
    return f"pgolf data get {name}{f' --shards {shards}' if shards else ''} --to {folder}"


def identity(path: Path) -> list[Any]:
    """What tells a file from another, for cache keys: its hash on the hub, else size and time.

    The same before and after a download, since hub.json knows what will come; it changes when a
    file does that was compared once.
    """
    record = Record.load(path.parent)
    known = record.files.get(path.name) if record else None
    if record and known and not record.has_changed(path.parent, path.name):
        return [str(path.resolve()), known.size, known.digest]
    return [str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns]


def sizes_in(folder: Path) -> dict[str, int]:
    """Bytes of each file in a folder; none where there is no folder."""
    if not folder.is_dir():
        return {}
    return {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}


def answer(place: Place, record: Record | None, fetched: list[str]) -> dict[str, Any]:
    """What `pgolf data get` says in the end."""
    there = sizes_in(place.folder)
    names = record.files if record else {name for name in there if not name.startswith(".")}
    return {
        "set": place.name,
        "folder": str(place.folder),
        "repository": place.repository,
        "revision": record.revision if record else None,
        "files": len(there.keys() & set(names)),
        "bytes": sum(size for name, size in there.items() if name in names),
        "fetched": len(fetched),
    }


def _check_space(folder: Path, files: list[RemoteFile]) -> None:
    # What lies there in part or under its name takes no further space.
    there = sizes_in(folder)
    parts = sum(size for name, size in there.items() if name.endswith(".part"))
    needed = sum(max(0, file.size - there.get(file.name, 0)) for file in files) - parts
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder}: {needed / 1e9:.1f} GB are to come, {free / 1e9:.1f} GB are free: make "
            "room, choose fewer shards (data.train_shards=N, or --shards N), or another disk by "
            "PGOLF_DATA"
        )


@contextmanager
def _alone(folder: Path, show: bool) -> Iterator[None]:
    """One download a folder at a time: two would append to the same partial file."""

    def busy() -> None:
        if show:
            print(f"{folder}: waiting for another download", file=sys.stderr, flush=True)

    with locked(folder / LOCK, busy):
        yield


# -- choosing ------------------------------------------------------------------------------------


def choose_file(listed: list[RemoteFile], place: Place, name: str) -> list[RemoteFile]:
    """The file of that name, wherever it is; raises UserError when there is none, or several."""
    return [only([f for f in listed if f.name == name], f"file {name}", place)]


def only(found: list[RemoteFile], what: str, place: Place) -> RemoteFile:
    """The one that was found, or that below datasets/ of several; else raises UserError."""
    if len(found) > 1:
        found = [f for f in found if f.path.startswith(ROOT)] or found
    if len(found) == 1:
        return found[0]
    fault = f"no {what}"
    if found:
        fault = f"several of {what} ({', '.join(f.path for f in found[:3])})"
    raise UserError(
        f"data set {place.repository} has {fault}: "
        f"its layout has changed; look at {hub_client.endpoint()}/datasets/{place.repository} and "
        f"copy the right files by hand to {place.folder}"
    )
