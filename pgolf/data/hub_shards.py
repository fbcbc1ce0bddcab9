"""A folder of published shards: what belongs there, what is missing, and fetching that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pgolf.data import hub
from pgolf.data.hub_record import RECORD, Record, RemoteFile
from pgolf.data.shards import PublishedFiles, find_published, of_kind
from pgolf.errors import UserError

FIRST = "fineweb_val_000000.bin"
USUAL_SHARDS = 80  # that published runs trained on: 8e9 tokens, 16 GB


class ShardFolder:
    """Shards and tokenizer of a published set in one folder, without the hub's folders.

    Args:
        name: of the set, for `pgolf data get`.
        repository, dataset: on the hub, and the name of the folder in it that holds the shards.
        folder: where they belong.
        tokenizer: name of the tokenizer's file.
        has_sidecars: whether the set has fineweb_val_bytes_*.bin.
        train_shards: training shards to use, the first ones; None uses all that are there, and
            fetches as many as published runs trained on where there are none.
    """

    def __init__(
        self,
        name: str,
        repository: str,
        dataset: str,
        folder: Path,
        tokenizer: str,
        has_sidecars: bool,
        train_shards: int | None,
    ) -> None:
        self.dataset, self.folder, self.tokenizer = dataset, folder, tokenizer
        self.has_sidecars, self.train_shards = has_sidecars, train_shards
        self.name, self.repository = name, repository

    @property
    def place(self) -> hub.Place:
        """Where the set goes, and how many shards it has: those asked for, else as in hub.json."""
        content = f"{self.tokenizer}, fineweb_val_*.bin, "
        content += "fineweb_val_bytes_*.bin, " if self.has_sidecars else ""
        content += f"fineweb_train_*.bin ({self.train_shards or 'at least one'})"
        record, shards = Record.load(self.folder), self.train_shards
        if shards is None and record:
            shards = len(of_kind("train", record.files)) or None
        return hub.Place(self.name, self.repository, self.folder, content, shards)

    def missing(self) -> list[str]:
        """Names of missing files where hub.json knows them, else patterns of what is missing."""
        there = hub.sizes_in(self.folder)
        record = Record.load(self.folder)
        missing = [name for name in (self._names(record) if record else []) if name not in there]
        least = {"val": 1, "train": self.train_shards or 1, "val_bytes": int(self.has_sidecars)}
        for kind, number in least.items():
            if len(of_kind(kind, [*there, *missing])) < number:
                missing.append(f"fineweb_{kind}_*.bin")
        return missing

    def files(self) -> PublishedFiles:
        """The files that are used, also those that are still to come.

        Raises:
            UserError: as `find_published`, or as `hub.plan` where nobody has planned yet.
        """
        if self.missing():
            names = self._names(self._record())
            found = PublishedFiles(
                *(
                    [self.folder / n for n in of_kind(k, names)]
                    for k in ("train", "val", "val_bytes")
                )
            )
        else:
            found = find_published(self.folder, self.train_shards)
        sidecars = found.sidecars if self.has_sidecars else []
        return PublishedFiles(found.training[: self.train_shards], found.validation, sidecars)

    # -- from the hub -----------------------------------------------------------------------------

    def plan(self, offline: bool = False) -> Record:
        """Ask the hub what belongs here; see `hub.plan`."""
        return hub.plan(self.place, self._choose, self.missing(), offline)

    def plan_and_fetch_tokenizer(self) -> None:
        """Make sure that what is missing can be fetched, and fetch the little that is used first.

        Raises:
            UserError: as `hub.plan`, or there are shards in a folder below this one.
        """
        self._refuse_nested()
        hub.fetch(self.place, self.plan(), [self.tokenizer], show=True)

    def fetch_missing(self, show: bool) -> None:
        """Fetch what hub.json lists and does not lie there, compared; without one all is taken.

        Raises:
            UserError: as `hub.fetch`.
        """
        if self.missing() or (self.folder / RECORD).exists():
            record = self._record()
            hub.fetch(self.place, record, self._names(record), show)

    def download(self, show: bool, offline: bool) -> dict[str, Any]:
        """Fetch what is missing and compare what is there with the hub.

        Args:
            offline: only look whether something is missing or, by hub.json, has changed.

        Raises:
            UserError: as `hub.plan` and `hub.fetch`.
        """
        if (why := hub.told_offline(offline)) and not self.missing():
            self.require_whole(why)
            return hub.answer(self.place, Record.load(self.folder), [])
        record = self.plan(offline)
        fetched = hub.fetch(self.place, record, self._names(record), show)
        return hub.answer(self.place, record, fetched)

    def require_whole(self, why: str) -> None:
        """Compare with hub.json what is not known to be whole; see `hub.require_whole`."""
        if record := Record.load(self.folder):
            hub.require_whole(self.place, record, self._names(record), why)

    def _record(self) -> Record:
        return Record.load(self.folder) or self.plan()

    def _names(self, record: Record) -> list[str]:
        """Those files of a record that are used, small ones first."""
        names = [self.tokenizer] if self.tokenizer in record.files else []
        names += of_kind("val_bytes", record.files) if self.has_sidecars else []
        names += of_kind("val", record.files)
        return names + of_kind("train", record.files)[: self.train_shards]

    def _refuse_nested(self) -> None:
        """Shards a little below are meant: other downloads keep the repository's folders."""
        for depth in range(1, 4):
            inside = next(self.folder.glob("*/" * depth + FIRST), None)
            if inside is not None:
                raise UserError(
                    f"{self.folder}: no published shards in this folder; there are some below, use "
                    f"data.path={inside.parent}"
                )

    def _choose(self, listed: list[RemoteFile]) -> list[RemoteFile]:
        """Validation, sidecars, the first training shards and the tokenizer of a repository."""
        repository = self.repository
        firsts = [f for f in listed if f.path.endswith(f"/{self.dataset}/{FIRST}")]
        first = hub.only(firsts, f"folder {self.dataset} with shards", self.place)
        folder = first.path.rpartition("/")[0]
        inside = {f.name: f for f in listed if f.path.rpartition("/")[0] == folder}
        train, val, val_bytes = (of_kind(kind, inside) for kind in ("train", "val", "val_bytes"))
        if not train or len(train) < (self.train_shards or 1):
            raise UserError(
                f"{folder} of {repository} has {len(train)} training shards, "
                f"{self.train_shards or 'some'} are asked for: use data.train_shards={len(train)}, "
                f"or --shards {len(train)}"
            )
        if self.has_sidecars and len(val_bytes) != len(val):
            raise UserError(
                f"{folder} of {repository} has {len(val_bytes)} byte sidecars for {len(val)} "
                "validation shards, so bits per byte cannot be counted: report it there, or use "
                "another set"
            )
        names = [*val, *(val_bytes if self.has_sidecars else [])]
        names += train[: self.train_shards or USUAL_SHARDS]
        models = [f for f in listed if f.name == self.tokenizer]
        model = hub.only(models, f"tokenizer {self.tokenizer}", self.place)
        return [model, *(inside[name] for name in names)]
