"""Whether the files of a folder of shards are there, whole, and what was made or published.

A prepared folder is compared with manifest.json and blocks.json, a published one with hub.json.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np

from pgolf.data.blocks import BLOCK_BYTES, DOCUMENTS, damaged_block
from pgolf.data.faults import Check, Files
from pgolf.data.hub import get_command
from pgolf.data.hub_record import RECORD, Record, RemoteFile
from pgolf.data.manifest import MANIFEST, File, Manifest, Shard, Split
from pgolf.data.shards import of_kind, read_shard, shard_length, without_gaps
from pgolf.errors import UserError
from pgolf.files import sha256_file
from pgolf.progress import track

AGAIN = "copy the file again or prepare again"
SHARD_KINDS = ("train", "val", "val_bytes")


def read_manifest(folder: Path) -> tuple[Manifest | None, Check]:
    """The manifest of a prepared folder."""
    check = Check("manifest")
    try:
        manifest = Manifest.load(folder)
    except UserError as error:
        remedy = "finish `pgolf data prepare`, or name a folder of shards"
        check.fault(folder / MANIFEST, 0, str(error), remedy)
        return None, check
    num_files = len(_files(manifest))
    check.about = f"{num_files} files, {manifest.split_rule}"
    return manifest, check


def _files(manifest: Manifest) -> list[File]:
    shards = [*manifest.training.shards, *manifest.validation.shards]
    return [file for shard in shards for file in shard.files()]


def check_prepared(folder: Path, manifest: Manifest, show: bool) -> list[Check]:
    """Header and size, then sha256, of every file that the manifest lists; documents by block."""
    shape, content, num_bytes = Check("files"), Check("sha256"), 0
    files = _files(manifest)
    with track("sha256", sum(file.size for file in files) / 1e6, "MB", show) as bar:
        for file in files:
            path = folder / file.path
            if _has_shape(shape, path, file.size, MANIFEST, "put it back or prepare again", AGAIN):
                if sha256_file(path) != file.sha256:
                    _damaged(content, folder, file.path, f"its sha256 is not that of {MANIFEST}")
                num_bytes += file.size
            bar.advance(file.size / 1e6, file.path)
    if (folder / DOCUMENTS).exists() and damaged_block(folder, DOCUMENTS):
        _damaged(content, folder, DOCUMENTS, "it is not what was prepared")
    shape.about = content.about = f"{num_bytes:,} bytes"
    return [shape, content]


def _damaged(check: Check, folder: Path, name: str, what: str) -> None:
    block = damaged_block(folder, name)
    where = f" (it differs within the {BLOCK_BYTES} bytes from there)" if block else ""
    check.fault(folder / name, block.start if block else 0, what + where, AGAIN)


def _has_shape(
    check: Check, path: Path, size: int | None, source: str, missing: str, damaged: str
) -> bool:
    """Whether a file is there, with a shard's header if it is one, and of the right size.

    Args:
        size: that `source` says; None where nothing does.
        missing, damaged: remedies.
    """
    if not path.is_file():
        check.fault(path, 0, "the file is missing", missing)
        return False
    found = path.stat().st_size
    if path.suffix == ".bin":
        try:
            shard_length(path)
        except UserError as error:
            cut = size is None or found < size
            check.fault(path, found if cut else 0, str(error), damaged)
            return False
    if size is not None and found != size:
        check.fault(path, min(found, size), f"{found} bytes, {source} says {size}", damaged)
    return size in (None, found)


# -- published -----------------------------------------------------------------------------------


def list_published(folder: Path) -> tuple[Manifest | None, Check]:
    """A manifest of published files: those that are there, and those that have to be.

    None where there is a fault, or where hub.json lists other files than shards.
    """
    check = Check("manifest")
    try:
        record = Record.load(folder)
    except UserError as error:
        check.fault(folder / RECORD, 0, str(error), "then run `pgolf data get` again")
        return None, check
    names = {path.name for path in folder.iterdir()} | set(record.files if record else ())
    training, validation, sidecars = (without_gaps(kind, names) for kind in SHARD_KINDS)
    if record and not any(of_kind(kind, record.files) for kind in SHARD_KINDS):
        return None, check.skip(f"no shards among the files of {RECORD}")
    if not validation:
        what = f"no validation shards (fineweb_val_000000.bin ...) and no {MANIFEST}"
        check.fault(folder, 0, what, published_remedy(folder, record))
        return None, check
    counts = [f"fineweb_val_bytes_{name[-10:]}" if sidecars else None for name in validation]
    source = f"revision {record.revision[:12]}" if record else "no hashes to compare with"
    check.about = f"none: published files, {len(training)} for training; {source}"
    splits = (
        Split([_shard(name, None) for name in training], None, None),
        Split([_shard(*pair) for pair in zip(validation, counts, strict=True)], None, None),
    )
    return Manifest("", 0, *splits, None, "as published", None, None, None), check


def _shard(tokens: str, sidecar: str | None) -> Shard:
    return Shard(File(tokens, 0, ""), File(sidecar, 0, "") if sidecar else None, 0, None)


def check_published(folder: Path, manifest: Manifest | None, show: bool) -> list[Check]:
    """Header of every shard; size and hash of every file that hub.json lists."""
    shape, content = Check("files"), Check("sha256")
    record = Record.load(folder)
    listed: dict[str, RemoteFile] = record.files if record else {}
    names = sorted({*listed, *(file.path for file in (_files(manifest) if manifest else []))})
    again = published_remedy(folder, record)
    sizes = {name: (folder / name).stat().st_size for name in names if (folder / name).is_file()}
    with track("sha256", sum(sizes.values()) / 1e6, "MB", show and bool(listed)) as bar:
        for name in names:
            file = listed.get(name)
            size = file.size if file else None
            whole = _has_shape(shape, folder / name, size, RECORD, again, again)
            if whole and file and (fault := file.fault(folder / name)):
                content.fault(folder / name, 0, f"{fault}, by {RECORD}", again)
            bar.advance(sizes.get(name, 0) / 1e6, name)
    shape.about = f"{len(sizes)} files, {sum(sizes.values()):,} bytes"
    if not listed:
        return [shape, content.skip(f"no {RECORD} that says what the files were")]
    content.about = f"{len(sizes.keys() & listed.keys())} files that {RECORD} lists"
    return [shape, content]


def published_remedy(folder: Path, record: Record | None) -> str:
    """How to get a published file anew."""
    if record is None or not record.name:
        return f"copy the file again, or fetch it by `{get_command('NAME', None, str(folder))}`"
    num_shards = len(of_kind("train", record.files)) or None
    return f"run `{get_command(record.name, num_shards, str(folder))}`"


# -- both ----------------------------------------------------------------------------------------


def usable_shards(folder: Path, split: Split) -> Files:
    """The shards of a split that can be read, and their sidecars if all of these can be."""
    tokens = _readable([folder / shard.tokens.path for shard in split.shards])
    listed = [folder / shard.sidecar.path for shard in split.shards if shard.sidecar]
    sidecars = _readable(listed)
    has_all = len(sidecars) == len(listed)
    ids, counts = list(tokens.values()), list(sidecars.values())
    fits = has_all and [len(values) for values in ids] == [len(values) for values in counts]
    return Files(
        list(tokens),
        ids,
        listed if has_all else [],
        counts if fits else None,
        len(ids) == len(split.shards),
        has_all,
    )


def _readable(paths: list[Path]) -> dict[Path, np.ndarray]:
    """Values of those shards that can be read."""
    found = {}
    for path in paths:
        with suppress(UserError):
            found[path] = read_shard(path)
    return found
