"""Whether a folder of shards is whole, was made by its tokenizer, and keeps its splits apart.

Checks go from files to their meaning; what a fault makes impossible is skipped and says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np

from pgolf.data.agreement import Agreement, compare_samples
from pgolf.data.blocks import DOCUMENTS
from pgolf.data.faults import Check, Files
from pgolf.data.hub_record import RECORD
from pgolf.data.manifest import MANIFEST, Manifest
from pgolf.data.shards import HEADER_BYTES, VALUE
from pgolf.data.verify_files import (
    AGAIN,
    check_prepared,
    check_published,
    list_published,
    read_manifest,
    usable_shards,
)
from pgolf.data.verify_text import check_text
from pgolf.errors import UserError
from pgolf.progress import track
from pgolf.protocols import Tokenizer
from pgolf.tokenizer.store import open_tokenizer

SPLITS = ("training", "validation")
BLOCK_TOKENS = 1 << 22
LEAST_SAMPLES = 8  # of a shard, to say that it alone is another tokenizer's


def verify_folder(
    folder: Path, documents: Path | None, tokenizer: Tokenizer | None, show: bool
) -> list[Check]:
    """All checks of a prepared or a published folder, in their order.

    Args:
        documents: raw validation documents to compare with; None takes those that the folder has
            itself, and without any the tokens are compared with their own decoded text.
        tokenizer: for a folder that has none of its own (published shards); for another one it is
            compared with the folder's.
    """
    named = (folder / RECORD).exists() or any(folder.glob("fineweb_*.bin"))
    is_published = named and not (folder / MANIFEST).exists()
    manifest, first = list_published(folder) if is_published else read_manifest(folder)
    if first.faults:
        return [first]
    if manifest is None:
        return [first, *check_published(folder, None, show)]
    checks = [first, *(check_published if is_published else check_prepared)(folder, manifest, show)]
    usable = {name: usable_shards(folder, getattr(manifest, name)) for name in SPLITS}
    if is_published:
        judged, check = _given(usable, tokenizer)
    else:
        judged, check = _own(folder, manifest, tokenizer)
    checks.append(check)
    if judged is None:
        names = ("ids", "documents", "bytes", "disjoint")
        return [*checks, *(Check(name).skip("no suitable tokenizer") for name in names)]
    text, remedy = documents, "give other --documents"
    damaged = {fault.file for check in checks for fault in check.faults}
    if text is None and (folder / DOCUMENTS).exists() and str(folder / DOCUMENTS) not in damaged:
        text, remedy = folder / DOCUMENTS, AGAIN
    return [*checks, *_check_tokens(usable, manifest, judged, text, remedy, show)]


def _check_tokens(
    usable: dict[str, Files],
    manifest: Manifest,
    tokenizer: Tokenizer,
    documents: Path | None,
    remedy: str,
    show: bool,
) -> list[Check]:
    """What can be said of the ids with the tokenizer that made them; see `check_text`."""
    bos_id, validation = tokenizer.bos_id, usable["validation"]
    places = list(split_documents(validation, bos_id))
    exact = manifest.roundtrip is not None and len(set(manifest.roundtrip.values())) == 1
    return [
        _check_ids(usable, tokenizer.vocab_size),
        _check_bos(usable, manifest, bos_id),
        check_text(validation, places, tokenizer, documents, remedy, exact, show),
        _check_disjoint(usable, bos_id, show),
    ]


def _own(
    folder: Path, manifest: Manifest, given: Tokenizer | None
) -> tuple[Tokenizer | None, Check]:
    """The folder's tokenizer if it is the one that made the ids."""
    check, saved = Check("tokenizer"), folder / "tokenizer"
    try:
        tokenizer = open_tokenizer(saved)
    except UserError as error:
        check.fault(saved, 0, str(error), "put the folder back or prepare again")
        return None, check
    made = manifest.vocab_size, manifest.tokenizer_fingerprint
    check.about = _identity(*made)
    if (tokenizer.vocab_size, tokenizer.fingerprint) != made:
        found = _identity(tokenizer.vocab_size, tokenizer.fingerprint)
        what = f"another tokenizer ({found}) than the one that made the shards ({check.about})"
        check.fault(saved / "tokenizer.json", 0, what, "put that one back or prepare again")
        return None, check
    if given is not None and (given.vocab_size, given.fingerprint) != made:
        found = _identity(given.vocab_size, given.fingerprint)
        what = f"these shards were made by {check.about}, tokenizer=... names another one ({found})"
        check.fault(saved / "tokenizer.json", 0, what, "leave tokenizer=... out, or name that one")
    return tokenizer, check


def _identity(vocab_size: int, fingerprint: str) -> str:
    return f"{vocab_size} ids, {fingerprint[:12]}"


def _given(usable: dict[str, Files], tokenizer: Tokenizer | None) -> tuple[Tokenizer | None, Check]:
    """The given tokenizer if samples of the shards are what it makes of their text."""
    check = Check("tokenizer")
    if tokenizer is None:
        return None, check.skip("give tokenizer=NAME tokenizer.path=MODEL")
    found: dict[Path, Agreement] = {}
    for files in usable.values():
        counted = zip_longest(files.ids, files.counts or [])
        for path, (ids, counts) in zip(files.paths, counted, strict=True):
            found[path] = compare_samples(ids, counts, tokenizer)
    total = sum(found.values(), Agreement())
    check.about = f"as given, {total.same} of {total.samples} samples are its"
    if fault := total.fault():
        remedy = "give the tokenizer that made these shards (tokenizer=NAME tokenizer.path=MODEL)"
        first = [*usable["validation"].paths, *usable["training"].paths][0]
        check.fault(first, 0, f"wrong tokenizer: {fault}", remedy)
        return None, check
    for path, one in found.items():
        if one.samples >= LEAST_SAMPLES and (fault := one.fault()):
            what = f"made by another tokenizer than the other shards: {fault}"
            check.fault(path, 0, what, "take the shards of one set")
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
