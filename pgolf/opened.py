"""A folder with an artifact, whoever made it: a run, an import, or what was shipped alone.

Finds its artifact, its configuration and the tokenizer of its ids.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgolf.config import load_config
from pgolf.errors import UserError
from pgolf.tokenizer import saved
from pgolf.tokenizer.base import PieceTokenizer, vocab_size_of
from pgolf.tokenizer.store import KINDS, open_tokenizer

MODEL_FILE = "model.pgolf"
PIECE_KINDS = [kind for kind in KINDS.values() if issubclass(kind, PieceTokenizer)]


@dataclass(frozen=True)
class Opened:
    """Args: folder: of config.yaml, or the artifact's own; artifact: the folder of model.pgolf."""

    folder: Path
    artifact: Path

    def config(self) -> dict[str, Any] | None:
        """As the model was trained; None for an artifact alone."""
        return load_config(self.folder) if (self.folder / "config.yaml").is_file() else None

    def tokenizer_folders(self) -> list[Path]:
        """Where its tokenizer may lie: beside it, or with the shards that a run used."""
        places = [self.folder / "tokenizer"]
        try:
            facts = json.loads((self.folder / "provenance.json").read_text(encoding="utf-8"))
            places.append(Path(facts["data"]["folder"]) / "tokenizer")
        except (OSError, ValueError, LookupError, TypeError):
            pass
        return [place for place in places if (place / saved.DESCRIPTION).is_file()]


def open_folder(path: Path) -> Opened:
    """A run or import, its `artifact/`, or a model.pgolf.

    Raises:
        UserError: there is no artifact.
    """
    inside = path.parent if path.is_file() and path.name == MODEL_FILE else path
    if (inside / "artifact" / MODEL_FILE).is_file():
        return Opened(inside, inside / "artifact")
    if not (inside / MODEL_FILE).is_file():
        raise UserError(
            f"{path}: no artifact ({MODEL_FILE}): name a finished run, a folder made by `pgolf "
            "import`, or an artifact/"
        )
    above = inside.resolve().parent
    has_config = inside.name == "artifact" and (above / "config.yaml").is_file()
    return Opened(above if has_config else inside, inside)


def find_tokenizer(opened: Opened, fingerprint: str, named: Path | None) -> Any:
    """The tokenizer whose ids the model reads.

    Args:
        fingerprint: that the artifact names; "" where nobody said.
        named: a folder or a SentencePiece .model, instead of what is found.

    Raises:
        UserError: there is none, or it is another one.
    """
    candidates = opened.tokenizer_folders() if named is None else [named]
    found = [one for place in candidates for one in _open(place)]
    for tokenizer in found:
        if fingerprint in ("", tokenizer.fingerprint):
            return tokenizer
    if named is not None:
        raise UserError(f"{named}: not the tokenizer of this artifact, {fingerprint[:12]}")
    raise UserError(
        f"{opened.folder}: its tokenizer {fingerprint[:12] or '(unknown)'} is not there "
        "(tokenizer/, or the shards of the run): name it by --tokenizer FOLDER or FILE.model"
    )


def _open(place: Path) -> list[Any]:
    """The tokenizer in a folder, or those of every kind that a .model file may serve."""
    if place.is_dir():
        return [open_tokenizer(place)]
    if not place.is_file():
        raise UserError(f"{place}: no such folder or file; name a tokenizer")
    tokenizers: list[Any] = []
    for kind in PIECE_KINDS:
        try:
            tokenizer = kind(
                vocab_size=vocab_size_of(str(place)), path=str(place), max_train_bytes=1
            )
            tokenizer.check()
            tokenizer.fit(())
        except UserError:  # it was made for another kind of text
            continue
        tokenizers.append(tokenizer)
    return tokenizers
