"""A folder's validation split alone, for processes that must not see training text."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from pgolf.data.manifest import File, Manifest, Shard, Split


def validation_view(folder: Path, target: Path) -> Manifest:
    """Link (or copy) the validation shards of a prepared folder into `target`, with a manifest.

    The new manifest has an empty training split and names no path outside `target`.

    Raises:
        UserError: the folder has no manifest, or a validation file is not as the manifest says.
    """
    manifest = Manifest.load(folder)
    replace(manifest, training=Split()).verify(folder)
    target.mkdir(parents=True, exist_ok=True)
    shards = []
    for index, shard in enumerate(manifest.validation.shards):
        tokens = _link(folder, shard.tokens, target, f"val_{index:06d}.bin")
        sidecar = shard.sidecar
        if sidecar is not None:
            sidecar = _link(folder, sidecar, target, f"val_bytes_{index:06d}.bin")
        shards.append(Shard(tokens, sidecar, shard.num_tokens, shard.raw_bytes))
    validation = replace(manifest.validation, shards=shards)
    view = replace(manifest, training=Split(), validation=validation)
    view.save(target)
    return view


def _link(folder: Path, file: File, target: Path, name: str) -> File:
    source, link = (folder / file.path).resolve(), target / name
    link.unlink(missing_ok=True)
    try:
        os.link(source, link)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, link)
    return replace(file, path=name)
