"""`data=prepared data.path=FOLDER`: shards that `pgolf data prepare` made, used where they lie."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from pgolf.data.corpus import CORPUS
from pgolf.data.journal import Journal
from pgolf.data.manifest import MANIFEST, File, Manifest, Shard, Split
from pgolf.errors import UserError
from pgolf.files import sha256_file
from pgolf.protocols import Tokenizer
from pgolf.tokenizer.store import describe_saved

VERSION = 1  # raised whenever the same folder would give another manifest


class PreparedShards:
    """A prepared folder; nothing but its validation documents is copied.

    Args:
        path: the folder. The run's tokenizer has to be of the kind and size of the folder's, which
            it then is.
    """

    def __init__(self, *, path: str) -> None:
        self.path = Path(path).expanduser()

    def check(self) -> None:
        """Look at the manifest and the size of every file, and into those that were touched.

        Raises:
            UserError: the folder is not prepared, or a file is missing or not as it was made.
        """
        Manifest.load(self.path).verify(self.path)
        damaged = Journal(self.path).damaged()
        if damaged:
            raise UserError(
                f"{self.path / damaged[0]}: missing, or not as `pgolf data prepare` made it "
                f"({len(damaged)} such files): the same command makes it again"
            )

    def cache_key(self) -> dict[str, Any]:
        return {
            "source": "prepared",
            "version": VERSION,
            "path": str(self.path.resolve()),
            "manifest": sha256_file(self.path / MANIFEST),
        }

    def documents(self, folder: Path, show: bool) -> Manifest:
        """Compare every file's sha256 with the manifest, and copy the validation documents.

        Raises:
            UserError: names a file that is not as it was.
        """
        manifest = Manifest.load(self.path)
        manifest.verify(self.path, hashes=True)
        for name in (CORPUS, "validation.jsonl.zst"):
            shutil.copyfile(self.path / "documents" / name, folder / name)
        return manifest

    def tokenize(self, documents: Path, tokenizer: Tokenizer, folder: Path, show: bool) -> Manifest:
        """Load the folder's tokenizer and write a manifest that names the files where they are.

        Raises:
            UserError: the run's tokenizer is another one.
        """
        manifest, named = Manifest.load(self.path), getattr(tokenizer, "path", None)
        if named is not None:
            tokenizer.fit(())
            if tokenizer.fingerprint != manifest.tokenizer_fingerprint:
                raise UserError(
                    f"tokenizer.path={named}: not the tokenizer that made the shards in "
                    f"{self.path}; leave it out"
                )
        try:
            tokenizer.load(self.path / "tokenizer")
        except UserError:
            found = describe_saved(self.path / "tokenizer")
            raise UserError(
                f"the run's tokenizer is not the one that made the shards in {self.path}: use "
                f"tokenizer={found.kind} scale.vocab_size={found.vocab_size}; if it is that one, "
                f"{self.path / 'tokenizer'} is damaged (`pgolf data verify`)"
            ) from None
        training, validation = self._placed(manifest.training), self._placed(manifest.validation)
        manifest = replace(manifest, training=training, validation=validation)
        tokenizer.save(folder / "tokenizer")
        manifest.save(folder)
        return manifest

    def _placed(self, split: Split) -> Split:
        """The split with absolute paths."""

        def placed(file: File) -> File:
            return replace(file, path=str((self.path / file.path).resolve()))

        shards = [
            Shard(
                placed(shard.tokens),
                placed(shard.sidecar) if shard.sidecar else None,
                shard.num_tokens,
                shard.raw_bytes,
            )
            for shard in split.shards
        ]
        return replace(split, shards=shards)
