"""The bytes of an artifact file: magic, checksum, format version, a JSON header, chunks of data.

docs/artifact_format.md describes them; this module knows nothing about tensors.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from pathlib import Path
from typing import Any

from pgolf.errors import UserError

MAGIC = b"PGOLF\r\n\x1a"  # as in PNG, a transfer in text mode would change it
# 1 knew codecs of bytes only, 2 plain codes only, 3 scales of whole rows only; all are still read.
FORMAT_VERSION = 4
# These two stay where they are in all versions: whether a file is whole can always be told.
START = struct.Struct("<8s32s")
REST = struct.Struct("<HI")  # format version, bytes of the compressed header
MAX_HEADER_BYTES = 2**24


def join(header: dict[str, Any], chunks: list[bytes]) -> bytes:
    """A whole file. The header is JSON; equal arguments give equal bytes."""
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    if len(text) > MAX_HEADER_BYTES:
        raise UserError(
            f"the artifact's header would take {len(text):,} bytes, the format allows "
            f"{MAX_HEADER_BYTES:,}: use fewer tensors or a smaller model configuration"
        )
    packed = zlib.compress(text, 9)
    rest = b"".join([REST.pack(FORMAT_VERSION, len(packed)), packed, *chunks])
    return START.pack(MAGIC, hashlib.sha256(rest).digest()) + rest


def split(data: bytes, path: Path) -> tuple[int, dict[str, Any], memoryview]:
    """Format version, header and chunks of a file; nothing is decoded before the checksum holds.

    Args:
        path: for messages.

    Raises:
        UserError: not an artifact, damaged, or written by a newer pgolf.
    """
    view = memoryview(data)
    if len(data) < START.size + REST.size or data[: len(MAGIC)] != MAGIC:
        raise UserError(
            f"{path}: not a pgolf artifact, or its beginning is damaged (magic bytes or length); "
            "copy it again in binary mode, or name another file"
        )
    _, digest = START.unpack_from(data)
    if hashlib.sha256(view[START.size :]).digest() != digest:
        raise UserError(
            f"{path}: damaged or cut short, its checksum does not match: copy it again from where "
            "it came from, or repeat the run that made it"
        )
    version, header_bytes = REST.unpack_from(data, START.size)
    if version > FORMAT_VERSION:
        raise UserError(
            f"{path}: format version {version}, this pgolf reads up to {FORMAT_VERSION}: "
            "upgrade pgolf"
        )
    first = START.size + REST.size
    header = _read_header(view[first : first + header_bytes], path)
    return version, header, view[first + header_bytes :]


def _read_header(packed: memoryview, path: Path) -> dict[str, Any]:
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(packed, MAX_HEADER_BYTES)
        if not inflate.eof:
            raise ValueError(f"longer than {MAX_HEADER_BYTES:,} bytes, or incomplete")
        header = json.loads(text)
    except (zlib.error, ValueError, RecursionError) as error:
        raise malformed(path, f"header: {error}") from error
    if not isinstance(header, dict):
        raise malformed(path, "header: no JSON object")
    return header


def malformed(path: Path, what: str) -> UserError:
    """An error for a file that is whole but does not say what this format says."""
    return UserError(
        f"{path}: its checksum is right but its content is not a valid artifact ({what}): it was "
        "written by something else than pgolf's pack stage; repeat the run that made it"
    )
