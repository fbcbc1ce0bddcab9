"""Token ids as one long sequence, with the raw bytes that each stands for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pgolf.data.manifest import MANIFEST, Manifest
from pgolf.data.shards import check_sidecar, find_published, read_shard
from pgolf.errors import UserError


class TokenStream:
    """A sequence of tokens.

    Args:
        ids: token ids, uint16 [n], in memory or memory-mapped.
        raw_bytes: UTF-8 bytes of each token, uint16 [n]; None for training text, whose bytes
            nobody counts.
    """

    def __init__(self, ids: np.ndarray, raw_bytes: np.ndarray | None = None) -> None:
        assert raw_bytes is None or len(raw_bytes) == len(ids)
        self.ids, self._raw_bytes = ids, raw_bytes

    @property
    def num_tokens(self) -> int:
        return len(self.ids)

    @property
    def raw_bytes(self) -> np.ndarray:
        assert self._raw_bytes is not None, "a training stream has no byte counts"
        return self._raw_bytes

    @classmethod
    def open_validation(cls, folder: Path, bytes_of_id: np.ndarray | None = None) -> TokenStream:
        """The validation split of a folder: memory-mapped if it is one shard, else read.

        Args:
            folder: with a manifest, or with the files of a published set.
            bytes_of_id: raw bytes of each id, uint16 [vocabulary]; used where a published folder
                has no byte sidecar.

        Raises:
            UserError: a file is missing, damaged or does not fit the others, or nothing says how
                many raw bytes the tokens stand for.
        """
        token_files, sidecars = _validation_files(folder)
        ids = _join([read_shard(path) for path in token_files])
        if sidecars:
            for tokens, sidecar in zip(token_files, sidecars, strict=True):
                check_sidecar(tokens, sidecar)
            return cls(ids, _join([read_shard(path) for path in sidecars]))
        if bytes_of_id is None:
            raise UserError(
                f"{folder}: no byte sidecar (fineweb_val_bytes_*.bin) beside the validation "
                "shards, so bits per raw byte cannot be counted: use a set that has it, or prepare "
                "the text itself with data=local data.path=..."
            )
        return cls(ids, count_bytes(ids, bytes_of_id, folder))

    @classmethod
    def open_training(cls, folder: Path) -> list[TokenStream]:
        """The training split of a folder, one stream a shard, memory-mapped.

        Raises:
            UserError: there is none, or a file is missing or damaged.
        """
        if (folder / MANIFEST).exists():
            manifest = Manifest.load(folder)
            paths = [folder / shard.tokens.path for shard in manifest.training.shards]
        else:
            paths = find_published(folder).training
        if not paths:
            raise UserError(
                f"{folder}: no training shards (fineweb_train_000000.bin ...): put at least one "
                "there, or name a folder that has some"
            )
        return [cls(read_shard(path)) for path in paths]


def _validation_files(folder: Path) -> tuple[list[Path], list[Path]]:
    if not (folder / MANIFEST).exists():
        found = find_published(folder)
        return found.validation, found.sidecars
    shards = Manifest.load(folder).validation.shards
    if not shards:
        raise UserError(f"{folder}: {MANIFEST} lists no validation shards; prepare the data again")
    sidecars = [folder / shard.sidecar.path for shard in shards if shard.sidecar]
    return [folder / shard.tokens.path for shard in shards], sidecars


def _join(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def count_bytes(ids: np.ndarray, bytes_of_id: np.ndarray, source: Path) -> np.ndarray:
    """Raw bytes of each token by a table, for tokenizers whose pieces always stand for the same.

    Args:
        ids: uint16 [n].
        bytes_of_id: uint16 [vocabulary].
        source: what is named when an id is not in the table.

    Returns:
        uint16 [n].

    Raises:
        UserError: the table is too short.
    """
    largest = int(ids.max(initial=0))
    if largest >= len(bytes_of_id):
        raise UserError(
            f"{source}: token id {largest} is outside the tokenizer's vocabulary of "
            f"{len(bytes_of_id)}: use the tokenizer that made these shards (tokenizer.path=...)"
        )
    return bytes_of_id.astype(np.uint16)[ids]
