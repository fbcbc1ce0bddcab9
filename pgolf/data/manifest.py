"""manifest.json: what is in a folder of shards, how it was made, and whether it is still whole."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pgolf.errors import UserError
from pgolf.files import sha256_file, write_json

SCHEMA = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class File:
    """A file: its path, relative to the manifest's folder or absolute, its bytes and its hash."""

    path: str
    size: int
    sha256: str

    @classmethod
    def of(cls, folder: Path, name: str) -> File:
        """Measure a file of the folder."""
        path = folder / name
        return cls(name, path.stat().st_size, sha256_file(path))


@dataclass(frozen=True)
class Shard:
    """Tokens and, for validation, the raw bytes of each.

    Args:
        sidecar: None for training text.
        raw_bytes: UTF-8 bytes that the tokens stand for; None where nothing says.
    """

    tokens: File
    sidecar: File | None
    num_tokens: int
    raw_bytes: int | None

    def files(self) -> list[File]:
        return [self.tokens, *([self.sidecar] if self.sidecar else [])]


@dataclass(frozen=True)
class Split:
    """Training or validation.

    Args:
        num_documents: None where they were not counted.
        document_bytes: UTF-8 bytes of the documents, counted from the text itself and not from
            tokens; None where only tokens were given (published shards).
    """

    shards: list[Shard] = field(default_factory=list)
    num_documents: int | None = 0
    document_bytes: int | None = 0

    @property
    def num_tokens(self) -> int:
        return sum(shard.num_tokens for shard in self.shards)

    @property
    def raw_bytes(self) -> int | None:
        """Bytes that the tokens stand for, by the sidecars."""
        counts = [shard.raw_bytes for shard in self.shards]
        return None if None in counts else sum(counts)  # type: ignore[arg-type]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "num_tokens": self.num_tokens, "raw_bytes": self.raw_bytes}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Split:
        shards = [
            Shard(
                File(**shard["tokens"]),
                File(**shard["sidecar"]) if shard["sidecar"] else None,
                shard["num_tokens"],
                shard["raw_bytes"],
            )
            for shard in value["shards"]
        ]
        return cls(shards, value["num_documents"], value["document_bytes"])


@dataclass(frozen=True)
class Manifest:
    """A folder of shards.

    Args:
        tokenizer_fingerprint, vocab_size: of the tokenizer that made the ids.
        official_validation: whether validation is the first 50,000 FineWeb documents; None:
            unknown.
        split_rule: how documents were divided into training and validation, in words.
        duplicates_removed: documents left out since the same text came before.
        training_documents_dropped: training documents left out since they are in validation, or
            have the tokens of a document there.
        roundtrip: `{documents, exact}` of validation, where `exact` ones decode to what they were;
            None where there is no text to compare with.
    """

    tokenizer_fingerprint: str
    vocab_size: int
    training: Split
    validation: Split
    official_validation: bool | None
    split_rule: str
    duplicates_removed: int | None
    training_documents_dropped: int | None
    roundtrip: dict[str, int] | None

    def save(self, folder: Path) -> None:
        values = {key: getattr(self, key) for key in self.__dataclass_fields__}
        splits = {key: values.pop(key).as_dict() for key in ("training", "validation")}
        write_json(folder / MANIFEST, {"schema": SCHEMA, **values, **splits})

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read a folder's manifest; see `verify` for its files.

        Raises:
            UserError: there is none, or it cannot be understood.
        """
        path = folder / MANIFEST
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            schema = values.pop("schema")
            if schema == SCHEMA:
                for key in ("training", "validation"):
                    values[key] = Split.from_dict(values[key])
                return cls(**values)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}; prepare the data again") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is damaged ({error}): prepare the data again") from error
        raise UserError(
            f"{path} has schema {schema}, this pgolf reads {SCHEMA}: prepare the data again"
        )

    def verify(self, folder: Path, hashes: bool = False) -> None:
        """Compare the files with what was written down: sizes, and with `hashes` their sha256.

        Raises:
            UserError: names the file and what differs.
        """
        for shard in [*self.training.shards, *self.validation.shards]:
            for file in shard.files():
                _verify_file(folder / file.path, file, hashes)


def _verify_file(path: Path, file: File, hashes: bool) -> None:
    if not path.is_file():
        raise UserError(f"{path}: missing, but {MANIFEST} lists it; put it back or prepare again")
    size = path.stat().st_size
    if size != file.size:
        raise UserError(
            f"{path}: {size} bytes, {MANIFEST} says {file.size}; put the file back or prepare again"
        )
    if hashes and sha256_file(path) != file.sha256:
        raise UserError(
            f"{path}: its sha256 is not the one in {MANIFEST}; put the file back or prepare again"
        )
