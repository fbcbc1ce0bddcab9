"""A tokenizer's folder: tokenizer.json says what it is, tokenizer.model has its pieces, if any."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pgolf.errors import UserError
from pgolf.files import atomic_writer, write_json

DESCRIPTION, MODEL = "tokenizer.json", "tokenizer.model"


@dataclass(frozen=True)
class Description:
    """Content of tokenizer.json.

    Attributes:
        kind: name of the option, e.g. "caseops".
        settings: keyword arguments of its class.
        fingerprint: see `fingerprint`.
        training: on what and with what it was trained, where `pgolf data train-tokenizer` did it.
    """

    kind: str
    settings: dict[str, Any]
    vocab_size: int
    fingerprint: str
    training: dict[str, Any] | None = None


def fingerprint(kind: str, version: int, model: bytes = b"") -> str:
    """Hex sha256 of all that decides ids: kind and version of the code, and the model."""
    return hashlib.sha256(f"{kind}/{version}\n".encode() + model).hexdigest()


def write(folder: Path, description: Description, model: bytes | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if model is not None:
        with atomic_writer(folder / MODEL) as file:
            file.write(model)
    write_json(folder / DESCRIPTION, asdict(description))


def record_training(folder: Path, training: dict[str, Any]) -> None:
    """Add to a folder's description how the tokenizer was trained."""
    write_json(folder / DESCRIPTION, asdict(replace(read(folder), training=training)))


def read(folder: Path) -> Description:
    """Raises UserError when the folder holds no tokenizer, or a damaged description."""
    path = folder / DESCRIPTION
    try:
        return Description(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; name a folder that holds a tokenizer") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): remove {folder} and run again") from error


def read_model(folder: Path) -> bytes:
    """Raises UserError when there is none."""
    path = folder / MODEL
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} is missing: remove {folder} and run again") from None


def verify(folder: Path, expected: Description, found: Description) -> None:
    """Compare what a folder says of a tokenizer with what it is.

    Raises:
        UserError: they differ.
    """
    if found.kind != expected.kind:
        raise UserError(f"{folder} holds a tokenizer {found.kind}, not {expected.kind}")
    if found.vocab_size != expected.vocab_size:
        raise UserError(
            f"{folder} holds a tokenizer of {found.vocab_size} ids, not "
            f"{expected.vocab_size}: use scale.vocab_size={found.vocab_size}"
        )
    if found.fingerprint != expected.fingerprint:
        raise UserError(
            f"{folder} is damaged: its tokenizer has fingerprint {expected.fingerprint[:12]}, "
            f"{DESCRIPTION} says {found.fingerprint[:12]}: remove the folder and run again"
        )
