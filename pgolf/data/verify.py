"""Whether a folder of shards is whole, was made by its tokenizer, and keeps its splits apart.

Checks go from files to their meaning; what a fault makes impossible is skipped and says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np

from pgolf.data.blocks import BLOCK_BYTES, damaged_block
from pgolf.data.faults import Check, Files
from pgolf.data.manifest import MANIFEST, File, Manifest, Shard, Split
from pgolf.data.shards import HEADER_BYTES, VALUE, find_published, read_shard, shard_length
from pgolf.data.verify_text import check_text
from pgolf.errors import UserError
from pgolf.files import sha256_file
from pgolf.progress import track
from pgolf.protocols import Tokenizer
from pgolf.tokenizer.store import open_tokenizer

SPLITS = ("training", "validation")
AGAIN = "copy the file again or prepare again"
BLOCK_TOKENS = 1 << 22


def verify_folder(
    folder: Path, documents: Path | None, tokenizer: Tokenizer | None, show: bool
) -> list[Check]:
    """All checks of a prepared or a published folder, in their order.

    Args:
        documents: raw validation documents to compare with; None takes those that the folder has
            itself, and without any the tokens are compared with their own decoded text.
        tokenizer: for a folder that has none of its own (published shards).
    """
    manifest, first = _manifest(folder)
    if manifest is None:
        return [first]
    checks = [first, *(_check_files(folder, manifest) if (folder / MANIFEST).exists() else [])]
    usable = {name: _usable(folder, getattr(manifest, name)) for name in SPLITS}
    judged = _tokenizer(folder, manifest, tokenizer)
    checks.append(judged[1])
    if judged[0] is None:
        names = ("ids", "documents", "bytes", "disjoint")
        return [*checks, *(Check(name).skip("no suitable tokenizer") for name in names)]
    tokenizer = judged[0]
    text = documents or folder / "documents" / "validation.jsonl.zst"
    exact = manifest.roundtrip is not None and len(set(manifest.roundtrip.values())) == 1
    return [
        *checks,
        _check_ids(usable, tokenizer.vocab_size),
        _check_bos(usable, manifest, tokenizer.bos_id),
        check_text(
            usable["validation"],
            list(split_documents(usable["validation"], tokenizer.bos_id)),
            tokenizer,
            text if text.exists() else None,
            exact,
            show,
        ),
        _check_disjoint(usable, tokenizer.bos_id, show),
    ]


def _manifest(folder: Path) -> tuple[Manifest | None, Check]:
    """The manifest, or for published files one made of what is there."""
    check = Check("manifest")
    try:
        if (folder / MANIFEST).exists() or not list(folder.glob("fineweb_*.bin")):
            manifest = Manifest.load(folder)
            num_files = sum(len(s.files()) for n in SPLITS for s in getattr(manifest, n).shards)
            check.about = f"{num_files} files, {manifest.split_rule}"
            return manifest, check
        found = find_published(folder)
        validation = [_shard(*pair) for pair in zip_longest(found.validation, found.sidecars)]
        training = [_shard(path, None) for path in found.training]
    except UserError as error:
        remedy = "finish `pgolf data prepare`, or name a folder of shards"
        check.fault(folder / MANIFEST, 0, str(error), remedy)
        return None, check
    except OSError as error:
        check.fault(folder, 0, f"cannot be read ({error.strerror})", "make it readable")
        return None, check
    check.about = f"none: published files, {len(training)} for training; no hashes to compare with"
    splits = Split(training, None, None), Split(validation, None, None)
    return Manifest("", 0, *splits, None, "as published", None, None, None), check


def _shard(tokens: Path, sidecar: Path | None) -> Shard:
    file = None if sidecar is None else File(sidecar.name, shard_length(sidecar), "")
    num_tokens = shard_length(tokens)
    return Shard(File(tokens.name, num_tokens, ""), file, num_tokens, None)


def _check_files(folder: Path, manifest: Manifest) -> list[Check]:
    """Header and size, then sha256, of every file that the manifest lists."""
    shape, content, num_bytes = Check("files"), Check("sha256"), 0
    for file in [f for n in SPLITS for s in getattr(manifest, n).shards for f in s.files()]:
        path = folder / file.path
        if not path.is_file():
            shape.fault(path, 0, "the file is missing", "put it back or prepare again")
            continue
        size = path.stat().st_size
        num_bytes += size
        try:
            shard_length(path)
        except UserError as error:
            shape.fault(path, size if size < file.size else 0, str(error), AGAIN)
            continue
        if size != file.size:
            what = f"{size} bytes, {MANIFEST} says {file.size}"
            shape.fault(path, min(size, file.size), what, AGAIN)
        elif sha256_file(path) != file.sha256:
            block = damaged_block(folder, file.path)
            where = f" (it differs within the {BLOCK_BYTES} bytes from there)" if block else ""
            what = f"its sha256 is not that of {MANIFEST}{where}"
            content.fault(path, block.start if block else 0, what, AGAIN)
    shape.about = content.about = f"{num_bytes:,} bytes"
    return [shape, content]


def _usable(folder: Path, split: Split) -> Files:
    """The shards of a split that can be read."""
    paths, ids, sidecars, counts = [], [], [], []
    for shard in split.shards:
        path = folder / shard.tokens.path
        try:
            values = read_shard(path)
        except UserError:
            continue
        paths.append(path)
        ids.append(values)
        if shard.sidecar is not None:
            try:
                beside = read_shard(folder / shard.sidecar.path)
            except UserError:
                continue
            sidecars.append(folder / shard.sidecar.path)
            counts.append(beside)
    fits = [len(values) for values in ids] == [len(values) for values in counts]
    return Files(paths, ids, sidecars, counts if fits else None, len(ids) == len(split.shards))


def _tokenizer(
    folder: Path, manifest: Manifest, given: Tokenizer | None
) -> tuple[Tokenizer | None, Check]:
    """The folder's tokenizer if it is the one that made the ids, or the given one."""
    check, saved = Check("tokenizer"), folder / "tokenizer"
    if not manifest.tokenizer_fingerprint:
        if given is None:
            return None, check.skip("give tokenizer=NAME tokenizer.path=MODEL")
        check.about = "as given"
        return given, check
    try:
        tokenizer = open_tokenizer(saved)
    except UserError as error:
        check.fault(saved, 0, str(error), "put the folder back or prepare again")
        return None, check
    expected = manifest.tokenizer_fingerprint
    if tokenizer.fingerprint != expected or tokenizer.vocab_size != manifest.vocab_size:
        what = (
            f"another tokenizer ({tokenizer.vocab_size} ids, {tokenizer.fingerprint[:12]}) than "
            f"the one that made the shards ({manifest.vocab_size} ids, {expected[:12]})"
        )
        check.fault(saved / "tokenizer.json", 0, what, "put that one back or prepare again")
        return None, check
    check.about = f"{tokenizer.vocab_size} ids, {expected[:12]}"
    return tokenizer, check


def _check_ids(usable: dict[str, Files], vocab_size: int) -> Check:
    check = Check("ids", f"below {vocab_size}")
    for files in usable.values():
        for path, ids in zip(files.paths, files.ids, strict=True):
            for start in range(0, len(ids), BLOCK_TOKENS):
                wrong = np.flatnonzero(ids[start : start + BLOCK_TOKENS] >= vocab_size)
                if len(wrong):
                    token = start + int(wrong[0])
                    what = f"token id {ids[token]} is outside the vocabulary of {vocab_size}"
                    check.fault(path, HEADER_BYTES + VALUE.itemsize * token, what, AGAIN)
                    break
    return check


def _check_bos(usable: dict[str, Files], manifest: Manifest, bos_id: int) -> Check:
    """Every split begins with a BOS, and has one for each document."""
    check, counted = Check("documents"), []
    for name, files in usable.items():
        count = sum(int(np.count_nonzero(ids == bos_id)) for ids in files.ids)
        counted.append(f"{count:,} {name}{'' if files.whole else ' (of what is there)'}")
        if not files.whole or not files.num_tokens:
            continue
        path, offset = files.place(0)
        if files.ids[0][0] != bos_id:
            what = f"the first token is {files.ids[0][0]}, not BOS ({bos_id})"
            check.fault(path, offset, what, AGAIN)
        expected = getattr(manifest, name).num_documents
        if expected is not None and count != expected:
            what = f"{count} BOS from here on, but {MANIFEST} says {expected} {name} documents"
            check.fault(path, offset, what, "put missing shards back or prepare again")
    check.about = ", ".join(counted)
    return check


def split_documents(files: Files, bos_id: int) -> Iterator[range]:
    """Positions of each document's tokens in the split, its BOS left out."""
    begun, before = None, 0
    for ids in files.ids:
        for start in range(0, len(ids), BLOCK_TOKENS):
            for mark in np.flatnonzero(ids[start : start + BLOCK_TOKENS] == bos_id):
                position = before + start + int(mark)
                if begun is not None:
                    yield range(begun, position)
                begun = position + 1
        before += len(ids)
    if begun is not None:
        yield range(begun, before)


def _keys(files: Files, bos_id: int) -> Iterator[tuple[bytes, int]]:
    """A hash of each document's ids, equal for equal texts, and where its BOS is."""
    for document in split_documents(files, bos_id):
        digest = hashlib.blake2b(digest_size=16)
        for piece in files.pieces(document):
            digest.update(piece.tobytes())
        yield digest.digest(), document.start - 1


def _check_disjoint(usable: dict[str, Files], bos_id: int, show: bool) -> Check:
    """No training document has the tokens of a validation document."""
    training, validation = usable["training"], usable["validation"]
    held_out = dict(_keys(validation, bos_id))
    check, position = Check("disjoint", f"{len(held_out):,} different validation documents"), 0
    with track("disjoint", training.num_tokens / 1e6, "Mtoken", show) as bar:
        for key, start in _keys(training, bos_id):
            bar.advance((start - position) / 1e6)
            position = start
            if key in held_out:
                other, where = validation.place(held_out[key])
                what = f"this training document is in validation, too ({other.name}, byte {where})"
                remedy = "prepare again: `pgolf data prepare` keeps the two apart"
                check.fault(*training.place(start), what, remedy)
        bar.advance((training.num_tokens - position) / 1e6)
    return check
