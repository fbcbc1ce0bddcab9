"""`data=fineweb_caseops` and its siblings: shards that others have tokenized, used where they lie.

Where files are missing, `check` asks the hub what belongs there (and fetches the small tokenizer,
which is opened next), and the documents step fetches the rest.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pgolf.data import hub
from pgolf.data.agreement import compare_samples
from pgolf.data.hub_shards import ShardFolder
from pgolf.data.manifest import File, Manifest, Shard, Split
from pgolf.data.pool import ordered_map
from pgolf.data.shards import PublishedFiles, check_sidecar, read_shard
from pgolf.data.surface import write_sidecars
from pgolf.errors import UserError
from pgolf.files import sha256_file, write_json
from pgolf.hardware import usable_cpus
from pgolf.progress import track
from pgolf.protocols import Tokenizer

VERSION = 2  # raised whenever the same files would give another inventory or manifest
INVENTORY, FIRST = "shards.json", "fineweb_val_000000.bin"
OFFICIAL_DOCUMENTS = 50_000
SEQ_LEN = 2048  # published totals are those of whole sequences of this length
MOST_BYTES_A_TOKEN = 32


@dataclass(frozen=True)
class Seen:
    """What was found in a shard that was read to its end."""

    path: str
    size: int
    sha256: str
    num_values: int
    largest: int
    total: int

    def file(self) -> File:
        return File(self.path, self.size, self.sha256)


class PublishedShards:
    """A folder of `fineweb_train_*.bin`, `fineweb_val_*.bin` and their byte sidecar.

    Nothing is copied: the manifest names the files where they are.

    Args:
        path: the folder.
        tokenizer_path: the SentencePiece model that made the ids, which tokenizer.path takes.
        name: of the set, for `pgolf data get`.
        repository, dataset: on the hub, and the name of the folder in it that holds the shards.
        byte_counts: "sidecar" takes fineweb_val_bytes_*.bin, "surfaces" counts by the pieces of
            the tokenizer (see surface.py), for sets that have no sidecar.
        train_shards: training shards to use, the first ones; None uses all that are there, and
            where there are none fetches as many as published runs trained on (80).
        val_tokens, val_bytes: published totals of the scored validation; with other totals it is
            not the official one.
    """

    def __init__(
        self,
        *,
        path: str,
        tokenizer_path: str,
        name: str,
        repository: str,
        dataset: str,
        byte_counts: Literal["sidecar", "surfaces"],
        val_tokens: int,
        val_bytes: int,
        train_shards: int | None = None,
    ) -> None:
        self.path, self.train_shards = Path(path).expanduser(), train_shards
        self.tokenizer_path, self.byte_counts = tokenizer_path, byte_counts
        self.repository, self.dataset = repository, dataset
        self.val_tokens, self.val_bytes = val_tokens, val_bytes
        self.shards = ShardFolder(
            name,
            repository,
            dataset,
            self.path,
            Path(tokenizer_path).name,
            byte_counts == "sidecar",
            train_shards,
        )

    def check(self) -> None:
        """Look at names, headers and lengths; where files are missing, at the hub.

        Raises:
            UserError: the folder or a file is damaged, or missing and the hub cannot help; says
                what to put where.
        """
        if self.train_shards is not None and self.train_shards < 1:
            raise UserError(
                f"data.train_shards={self.train_shards}: expected 1 or more, or null for all"
            )
        hub.recheck(self.path)
        if self.shards.missing():
            self.shards.plan_and_fetch_tokenizer()
            return
        if why := hub.told_offline():
            self.shards.require_whole(why)
        files = self.shards.files()
        for tokens, sidecar in zip(files.validation, files.sidecars, strict=False):
            check_sidecar(tokens, sidecar)

    def cache_key(self) -> dict[str, Any]:
        """The same before and after a download."""
        return {
            "source": "published",
            "version": VERSION,
            "byte_counts": self.byte_counts,
            "val_tokens": self.val_tokens,
            "val_bytes": self.val_bytes,
            "files": [hub.identity(path) for path in _all(self.shards.files())],
        }

    def download(self, show: bool, offline: bool = False) -> dict[str, Any]:
        """Fetch what is missing; see `ShardFolder.download`."""
        return self.shards.download(show, offline)

    def documents(self, folder: Path, show: bool) -> dict[str, Any]:
        """Fetch what is missing, read every file once and write down what it holds.

        Raises:
            UserError: a file cannot be fetched or is damaged, or a sidecar is not of its tokens'
                length.
        """
        self.shards.fetch_missing(show)
        self.check()
        files = self.shards.files()
        paths = [path.resolve() for path in _all(files)]
        seen: list[Seen] = []
        total = sum(path.stat().st_size for path in paths) / 1e6
        processes = min(usable_cpus(), len(paths), 1 + int(total // 200))
        with track("check", total, "MB", show) as bar:
            for one in ordered_map(examine, paths, processes):
                seen.append(one)
                bar.advance(one.size / 1e6)
        cuts = len(files.training), len(files.training) + len(files.validation)
        inventory = {
            "training": [asdict(one) for one in seen[: cuts[0]]],
            "validation": [asdict(one) for one in seen[cuts[0] : cuts[1]]],
            "sidecars": [asdict(one) for one in seen[cuts[1] :]],
        }
        write_json(folder / INVENTORY, inventory)
        return inventory

    def tokenize(self, documents: Path, tokenizer: Tokenizer, folder: Path, show: bool) -> Manifest:
        """Load the tokenizer, see that it made these ids, and write the manifest.

        Raises:
            UserError: the tokenizer has no model given, or the ids are not its.
        """
        if getattr(tokenizer, "path", None) is None:
            raise UserError(
                f"{self.path} holds tokens already: give the tokenizer that made them by "
                f"tokenizer.path={self.tokenizer_path} (from {self.repository})"
            )
        tokenizer.fit([])
        inventory = json.loads((documents / INVENTORY).read_text(encoding="utf-8"))
        found = {key: [Seen(**one) for one in value] for key, value in inventory.items()}
        check_ids([*found["training"], *found["validation"]], tokenizer.vocab_size)
        check_tokenizer(read_shard(Path(found["validation"][0].path)), tokenizer, self.path)
        training = [Shard(one.file(), None, one.num_values, None) for one in found["training"]]
        sidecars = [(one.file(), one.total) for one in found["sidecars"]]
        if self.byte_counts == "surfaces":
            shards = [Path(one.path) for one in found["validation"]]
            sidecars = write_sidecars(shards, str(tokenizer.path), folder)  # type: ignore[attr-defined]
        validation = _validation(found["validation"], sidecars, tokenizer.bos_id)
        manifest = Manifest(
            tokenizer_fingerprint=tokenizer.fingerprint,
            vocab_size=tokenizer.vocab_size,
            training=Split(training, None, None),
            validation=validation,
            official_validation=self.is_official(validation),
            split_rule=f"as published in {self.repository} ({self.dataset})",
            duplicates_removed=None,
            training_documents_dropped=None,
            roundtrip=None,
        )
        tokenizer.save(folder / "tokenizer")
        manifest.save(folder)
        return manifest

    def is_official(self, validation: Split) -> bool:
        """Whether documents, tokens and bytes are those of the first 50,000 FineWeb documents.

        Published totals leave out the first token and what is beyond whole sequences, at most
        2,048 tokens.
        """
        more_tokens = validation.num_tokens - self.val_tokens
        more_bytes = (validation.raw_bytes or 0) - self.val_bytes
        return (
            validation.num_documents == OFFICIAL_DOCUMENTS
            and 0 <= more_tokens <= SEQ_LEN
            and 0 <= more_bytes <= MOST_BYTES_A_TOKEN * SEQ_LEN
        )


def _all(files: PublishedFiles) -> list[Path]:
    return [*files.training, *files.validation, *files.sidecars]


def _validation(tokens: list[Seen], sidecars: list[tuple[File, int]], bos_id: int) -> Split:
    """The split, its documents counted by their BOS."""
    num_documents = sum(int((read_shard(Path(one.path)) == bos_id).sum()) for one in tokens)
    shards = [
        Shard(one.file(), sidecar, one.num_values, total)
        for one, (sidecar, total) in zip(tokens, sidecars, strict=True)
    ]
    return Split(shards, num_documents, None)


def examine(path: Path) -> Seen:
    """Read a shard to its end; raises UserError when it is damaged."""
    values = read_shard(path)
    return Seen(
        str(path),
        path.stat().st_size,
        sha256_file(path),
        len(values),
        int(values.max(initial=0)),
        int(values.sum(dtype=np.int64)),
    )


def check_ids(shards: list[Seen], vocab_size: int) -> None:
    """Raises UserError when a shard has an id that the tokenizer does not."""
    for shard in shards:
        if shard.largest >= vocab_size:
            raise UserError(
                f"{shard.path}: token id {shard.largest} is outside the tokenizer's vocabulary of "
                f"{vocab_size}: give the tokenizer that made these shards (tokenizer=... "
                "tokenizer.path=... scale.vocab_size=...)"
            )


def check_tokenizer(ids: np.ndarray, tokenizer: Tokenizer, source: Path) -> None:
    """Decode samples and encode them again; see agreement.py.

    Args:
        ids: of a validation shard, uint16 [n].

    Raises:
        UserError: another tokenizer made the ids.
    """
    found = compare_samples(ids, None, tokenizer)
    fault = found.fault() if found.samples else f"no document begins with BOS ({tokenizer.bos_id})"
    if fault:
        raise UserError(
            f"{source}: {fault}: give the tokenizer that made the shards (tokenizer=... "
            "tokenizer.path=...)"
        )
