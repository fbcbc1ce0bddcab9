"""The published shard format: a header of 256 int32, then little-endian uint16 values.

Token ids and byte sidecars share it, so a file's name or the manifest has to say which it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from pgolf.errors import UserError
from pgolf.files import atomic_writer

MAGIC, VERSION, HEADER_INTS = 20240520, 1, 256
HEADER_BYTES = 4 * HEADER_INTS
VALUE = np.dtype("<u2")


class ShardWriter:
    """Appends uint16 values to an open shard; made by `shard_writer`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.num_values = file, 0

    def append(self, values: np.ndarray) -> None:
        self._file.write(values.astype(VALUE, copy=False).tobytes())
        self.num_values += len(values)


@contextmanager
def shard_writer(path: Path) -> Iterator[ShardWriter]:
    """Write a shard piece by piece; it appears under its name when it is whole."""
    with atomic_writer(path) as file:
        file.write(_header(0))
        writer = ShardWriter(file)
        yield writer
        file.seek(0)
        file.write(_header(writer.num_values))


def _header(num_values: int) -> bytes:
    header = np.zeros(HEADER_INTS, "<i4")
    header[:3] = MAGIC, VERSION, num_values
    return header.tobytes()


def shard_length(path: Path) -> int:
    """Number of values of a shard, after checking its header and its size.

    Raises:
        UserError: the file is missing, of another format, or not as long as its header says.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            header = np.frombuffer(file.read(12), "<i4") if size >= HEADER_BYTES else None
    except OSError as error:
        raise UserError(
            f"{path}: cannot read this shard ({error.strerror}); put it back or prepare the data "
            "again"
        ) from error
    if header is None:
        raise UserError(
            f"{path}: {size} bytes, but a shard begins with a header of {HEADER_BYTES}; copy it "
            "again"
        )
    magic, version, num_values = (int(value) for value in header)
    if magic != MAGIC or version != VERSION:
        raise UserError(
            f"{path}: expected a shard's header ({MAGIC}, version {VERSION}), found ({magic}, "
            f"version {version}): this is another kind of file, take it away or replace it"
        )
    expected = HEADER_BYTES + VALUE.itemsize * num_values
    if size != expected or num_values < 0:
        fault = "cut off" if size < expected else "too long"
        raise UserError(
            f"{path}: {fault}: the header says {num_values} values, which make {expected} bytes, "
            f"the file has {size}; copy it again"
        )
    return num_values


def read_shard(path: Path) -> np.ndarray:
    """The values of a shard, uint16 [n], memory-mapped and read-only.

    Raises:
        UserError: as `shard_length`.
    """
    num_values = shard_length(path)
    if num_values == 0:
        return np.empty(0, VALUE)
    return np.asarray(np.memmap(path, VALUE, "r", HEADER_BYTES, (num_values,)))


def check_sidecar(tokens: Path, sidecar: Path) -> None:
    """Raises UserError when a byte sidecar has another length than the tokens it belongs to."""
    num_tokens, num_counts = shard_length(tokens), shard_length(sidecar)
    if num_tokens != num_counts:
        raise UserError(
            f"{sidecar}: {num_counts} byte counts for the {num_tokens} tokens of {tokens.name}: "
            "the two are not of one set, copy both again"
        )


@dataclass(frozen=True)
class PublishedFiles:
    """The shards of a published folder; `sidecars` is empty or has one for each of `validation`."""

    training: list[Path]
    validation: list[Path]
    sidecars: list[Path]


def of_kind(kind: str, names: Iterable[str]) -> list[str]:
    """Names of training ("train") or validation ("val") shards or sidecars ("val_bytes").

    By their whole names: `fineweb_val_*` would match the sidecars `fineweb_val_bytes_*` too, which
    once were read as tokens (first version of PR #1738).
    """
    return sorted(name for name in names if re.fullmatch(rf"fineweb_{kind}_\d{{6}}\.bin", name))


def without_gaps(kind: str, names: Iterable[str]) -> list[str]:
    """Names from number 000000 to the last one of a kind, also those that are not among `names`."""
    last = max((int(name[-10:-4]) for name in of_kind(kind, names)), default=-1)
    return [f"fineweb_{kind}_{number:06d}.bin" for number in range(last + 1)]


def find_published(folder: Path, train_shards: int | None = None) -> PublishedFiles:
    """Tell the files of a published folder apart.

    Args:
        train_shards: take the first training shards only; None takes all.

    Raises:
        UserError: a shard is missing between others, there are none for validation, or some have a
            sidecar and others have not.
    """
    names = {path.name for path in _entries(folder)}
    training, validation, sidecars = (
        of_kind(kind, names) for kind in ("train", "val", "val_bytes")
    )
    training = training[:train_shards]
    if not validation:
        raise UserError(
            f"{folder}: no validation shards (fineweb_val_000000.bin ...) and no manifest.json: "
            "put the published files there, or name the folder that has them"
        )
    for kind, found in (("train", training), ("val", validation)):
        missing = [name for name in without_gaps(kind, found) if name not in names]
        if missing:
            raise UserError(
                f"{folder / missing[0]}: missing, but there are later ones up to {found[-1]}: "
                "copy it there, or fetch it by `pgolf data get`"
            )
    if sidecars and [name[-10:] for name in sidecars] != [name[-10:] for name in validation]:
        raise UserError(
            f"{folder}: {len(sidecars)} byte sidecars (fineweb_val_bytes_*.bin) for "
            f"{len(validation)} validation shards: copy the missing ones"
        )
    return PublishedFiles(
        *([folder / name for name in n] for n in (training, validation, sidecars))
    )


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise UserError(
            f"{folder}: cannot open this folder of shards ({error.strerror}); name another one"
        ) from error
