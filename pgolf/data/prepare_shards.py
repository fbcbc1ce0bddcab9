"""Raw documents to a folder of shards in one go, which a killed process can take up again.

    FOLDER/  train_000000.bin ...  val_000000.bin ...  val_bytes_000000.bin ...
             manifest.json  blocks.json  tokenizer/  preparation.json  journal.json
             documents/validation.jsonl.zst  documents.json

`documents/training.jsonl.zst` is there until all is done. Every file is a function of the text and
the settings, but `journal.json`, which also says when the others were written.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgolf.clock import Clock
from pgolf.data import ray_pool
from pgolf.data.blocks import BLOCKS
from pgolf.data.corpus import CORPUS
from pgolf.data.journal import JOURNAL, Journal
from pgolf.data.manifest import MANIFEST, Manifest
from pgolf.data.tokenize import Work, encode_documents, open_journal
from pgolf.errors import UserError
from pgolf.files import explain_os_error, locked, sha256_json, write_json

PREPARATION, LOCK = "preparation.json", ".lock"
# What a preparation is decided by, in words of what differs.
CLAIMS = {
    "source": "other text (or its files have other times)",
    "tokenizer": "another tokenizer",
    "shard_tokens": "another --shard-tokens",
}
TRAINING, VALIDATION = "training.jsonl.zst", "validation.jsonl.zst"


@dataclass(frozen=True)
class Prepared:
    """What was done.

    Args:
        seconds: of each step.
        kept_shards: finished by an earlier process.
        new_bytes: UTF-8 bytes of the documents that were encoded now.
        damaged: files of a finished folder that were missing or changed, and were made again.
    """

    manifest: Manifest
    seconds: dict[str, float]
    kept_shards: int
    new_bytes: int
    damaged: list[str] = field(default_factory=list)

    @property
    def mb_per_s(self) -> float | None:
        """MB of text a second over all steps; None if nothing was left to do."""
        return self.new_bytes / 1e6 / sum(self.seconds.values()) if self.new_bytes else None


def prepare_shards(
    source: Any, tokenizer: Any, folder: Path, clock: Clock, work: Work, show: bool
) -> Prepared:
    """Read, divide, fit the tokenizer and encode.

    Goes on where an earlier process was killed. In a finished folder it looks whether all files
    are as they were, and makes again what is not. The files depend on source, tokenizer and
    `work.shard_tokens` alone.

    Args:
        source: a DataSource that has documents, such as LocalText.
        clock: measures the steps "documents" and "tokens".

    Raises:
        UserError: the folder holds something else or is in use, Ray is asked for and not there, or
            an input is wrong.
        RunFailed: the tokenizer has a fault, or a process was lost.
    """
    if work.engine == "ray":
        ray_pool.connect()  # before all the text is read
    settings = {
        "source": source.cache_key(),
        "tokenizer": tokenizer.cache_key(),
        "shard_tokens": work.shard_tokens,
    }
    with _locked(folder):
        _claim(folder, settings)
        for path in folder.rglob(".*.partial"):  # what a killed writer left
            path.unlink()
        journal = Journal(folder)
        damaged = journal.damaged()
        if journal.finished and not damaged:
            manifest = Manifest.load(folder)
            done = Prepared(manifest, {}, len(journal.kept()), 0)
        else:
            for name in damaged:
                (folder / name).unlink(missing_ok=True)
            done = _prepare(source, tokenizer, folder, clock, work, show)
            done.damaged.extend(damaged if journal.finished else [])
        (folder / "documents" / TRAINING).unlink(missing_ok=True)
    return done


def _prepare(
    source: Any, tokenizer: Any, folder: Path, clock: Clock, work: Work, show: bool
) -> Prepared:
    documents = folder / "documents"
    documents.mkdir(exist_ok=True)
    if not all((documents / name).exists() for name in (CORPUS, TRAINING, VALIDATION)):
        with clock.phase("documents", "data"):
            source.documents(documents, show)
    kept = open_journal(documents, folder, work).kept()
    with clock.phase("tokens", "data"):
        manifest = encode_documents(documents, tokenizer, folder, show, work)
    open_journal(documents, folder, work).finish(_names_besides_shards(folder))
    total = (manifest.training.raw_bytes or 0) + (manifest.validation.raw_bytes or 0)
    seconds = {name: clock.seconds(name) for name in ("documents", "tokens")}
    return Prepared(manifest, seconds, len(kept), total - sum(s.raw_bytes or 0 for s in kept))


def _names_besides_shards(folder: Path) -> list[str]:
    tokenizer = [f"tokenizer/{path.name}" for path in sorted((folder / "tokenizer").iterdir())]
    return [MANIFEST, BLOCKS, *tokenizer, f"documents/{CORPUS}", f"documents/{VALIDATION}"]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of the folder; raises UserError where one is in it."""

    def busy() -> None:
        raise UserError(
            f"{folder}: another process is preparing data there; wait for it, or choose "
            "another folder"
        )

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, folder) from error
    with locked(folder / LOCK, busy):
        yield


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Write down what the folder is for.

    What an attempt left that came to no shard is taken away; its documents stay if they are wanted.

    Raises:
        UserError: the folder has shards of something else, or other files.
    """
    path = folder / PREPARATION
    wanted = {"sha256": sha256_json(settings), "settings": settings}
    if not path.exists() and any(entry.name != LOCK for entry in folder.iterdir()):
        raise UserError(f"{folder} is not empty: choose a new folder")
    found = _claimed(path) if path.exists() else {}
    if found.get("sha256") == wanted["sha256"]:
        return
    if any(folder.glob("*.bin")):
        plain = json.loads(json.dumps(settings))
        others = [CLAIMS[key] for key in plain if found.get("settings", {}).get(key) != plain[key]]
        what = (
            f"{folder} was begun with {' and '.join(others)} (see {PREPARATION})"
            if found
            else f"{path} is damaged, so what the shards beside it were made of is not known"
        )
        raise UserError(f"{what}: use the same ones to go on, another folder, or delete this one")
    (folder / JOURNAL).unlink(missing_ok=True)
    if found.get("settings", {}).get("source") != json.loads(json.dumps(settings["source"])):
        shutil.rmtree(folder / "documents", ignore_errors=True)
    write_json(path, wanted)


def _claimed(path: Path) -> dict[str, Any]:
    """What an earlier command wrote down; nothing if that cannot be read."""
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}
