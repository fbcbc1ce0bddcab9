"""Raw documents to a folder of shards in one go, which a killed process can take up again.

    FOLDER/  train_000000.bin ...  val_000000.bin ...  val_bytes_000000.bin ...
             manifest.json  blocks.json  tokenizer/  preparation.json
             documents/validation.jsonl.zst  documents.json

`documents/training.jsonl.zst` and `journal.json` are there until all is done.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgolf.clock import Clock
from pgolf.data.corpus import CORPUS
from pgolf.data.journal import JOURNAL
from pgolf.data.manifest import MANIFEST, Manifest
from pgolf.data.tokenize import Work, open_journal, tokenize_documents
from pgolf.errors import UserError
from pgolf.files import explain_os_error, locked, sha256_json, write_json

PREPARATION, LOCK, TRAINING = "preparation.json", ".lock", "training.jsonl.zst"


@dataclass(frozen=True)
class Prepared:
    """What was done.

    Args:
        seconds: of each step.
        kept_shards: finished by an earlier process.
        new_bytes: UTF-8 bytes of the documents that were encoded now.
    """

    manifest: Manifest
    seconds: dict[str, float]
    kept_shards: int
    new_bytes: int

    @property
    def mb_per_s(self) -> float | None:
        """MB of text a second over all steps; None if nothing was left to do."""
        return self.new_bytes / 1e6 / sum(self.seconds.values()) if self.new_bytes else None


def prepare_shards(
    source: Any, tokenizer: Any, folder: Path, clock: Clock, work: Work, show: bool
) -> Prepared:
    """Read, divide, fit the tokenizer and encode; goes on where an earlier process was killed.

    The files depend on source, tokenizer and `work.shard_tokens` alone.

    Args:
        source: a DataSource that has documents, such as LocalText.
        clock: measures the steps "documents" and "tokens".

    Raises:
        UserError: the folder holds something else or is in use, or an input is wrong.
        RunFailed: the tokenizer has a fault, or a process was lost.
    """
    settings = {
        "source": source.cache_key(),
        "tokenizer": tokenizer.cache_key(),
        "shard_tokens": work.shard_tokens,
    }
    with _locked(folder):
        _claim(folder, settings)
        for path in folder.rglob(".*.partial"):  # what a killed writer left
            path.unlink()
        if (folder / MANIFEST).exists():
            done = _finished(folder)
        else:
            done = _prepare(source, tokenizer, folder, clock, work, show)
        (folder / JOURNAL).unlink(missing_ok=True)
        (folder / "documents" / TRAINING).unlink(missing_ok=True)
    return done


def _finished(folder: Path) -> Prepared:
    """What is there already; raises UserError where a file is missing or damaged."""
    manifest = Manifest.load(folder)
    manifest.verify(folder)
    return Prepared(manifest, {}, len(manifest.training.shards + manifest.validation.shards), 0)


def _prepare(
    source: Any, tokenizer: Any, folder: Path, clock: Clock, work: Work, show: bool
) -> Prepared:
    documents = folder / "documents"
    documents.mkdir(exist_ok=True)
    if not ((documents / CORPUS).exists() and (documents / TRAINING).exists()):
        with clock.phase("documents", "data"):
            source.documents(documents, show)
    kept = open_journal(documents, folder, work).kept()
    with clock.phase("tokens", "data"):
        manifest = tokenize_documents(documents, tokenizer, folder, show, work)
    total = (manifest.training.raw_bytes or 0) + (manifest.validation.raw_bytes or 0)
    seconds = {name: clock.seconds(name) for name in ("documents", "tokens")}
    return Prepared(manifest, seconds, len(kept), total - sum(s.raw_bytes or 0 for s in kept))


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
    """Write down what the folder is for; raises UserError if it is for something else."""
    path = folder / PREPARATION
    wanted = {"sha256": sha256_json(settings), "settings": settings}
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["sha256"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is damaged ({error}): remove the folder, begin anew"
            ) from error
        if found != wanted["sha256"]:
            raise UserError(
                f"{folder} was begun with other text, another tokenizer or other settings (see "
                f"{PREPARATION}): use the same ones to go on, or another folder"
            )
        return
    if any(entry.name != LOCK for entry in folder.iterdir()):
        raise UserError(f"{folder} is not empty: choose a new folder")
    write_json(path, wanted)
