"""blocks.json: a checksum for every 64 KiB of a folder's files, to say where one is damaged."""

from __future__ import annotations

import json
import zlib
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path

from pgolf.data.manifest import Manifest
from pgolf.files import write_json

BLOCKS, BLOCK_BYTES = "blocks.json", 1 << 16
DOCUMENTS = "documents/validation.jsonl.zst"  # of a folder that has them


def block_sums(path: Path) -> list[int]:
    """CRC-32 of each block of a file; the last one is shorter."""
    with open(path, "rb") as file:
        return [zlib.crc32(block) for block in iter(lambda: file.read(BLOCK_BYTES), b"")]


def save_block_sums(folder: Path, manifest: Manifest) -> None:
    """Write blocks.json for the files that a manifest lists, and for the validation documents."""
    shards = [*manifest.training.shards, *manifest.validation.shards]
    names = [file.path for shard in shards for file in shard.files()]
    names += [DOCUMENTS] if (folder / DOCUMENTS).exists() else []
    write_json(folder / BLOCKS, {name: block_sums(folder / name) for name in names})


def damaged_block(folder: Path, name: str) -> range | None:
    """Bytes of the first block that is not what it was; None where nothing says or none is."""
    with suppress(OSError, ValueError, KeyError):
        expected = json.loads((folder / BLOCKS).read_text(encoding="utf-8"))[name]
        for index, (a, b) in enumerate(zip_longest(expected, block_sums(folder / name))):
            if a != b:
                return range(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES)
    return None
