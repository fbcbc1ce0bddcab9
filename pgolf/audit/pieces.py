"""What each token stands for, read from the tokenizer's file by code of the auditor's own.

A SentencePiece model is a protocol buffer; its pieces, their types and two facts of its normaliser
are walked here. Neither SentencePiece nor pgolf's tokenizers take part, so that a mistake in their
byte tables cannot hide itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SPACE = "\u2581"
TITLE, ALL_CAPS, CAP_NEXT, ESCAPE = "\ue001\ue002\ue003\ue004"
CONTROLS = frozenset((TITLE, ALL_CAPS, CAP_NEXT, ESCAPE))
# Of SentencePiece.Type.
UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 2, 3, 4, 5, 6
CASE_KINDS = {"caseops", "caseops_lossless"}


@dataclass(frozen=True)
class Pieces:
    """The surfaces of a vocabulary.

    Args:
        kind: of tokenizer.json.
        text: piece of each id; "" for controls.
        byte: value of a byte piece, -1 for others; int64 [V].
        dummy_prefix: the first space mark of a document stands for nothing.
        identity: the normaliser has no rules and keeps white space.
    """

    kind: str
    text: list[str]
    byte: np.ndarray
    dummy_prefix: bool = False
    identity: bool = True

    @property
    def has_case(self) -> bool:
        return self.kind in CASE_KINDS

    def has_space(self, token: int) -> bool:
        """The piece begins with the mark of a space."""
        return token < len(self.text) and self.text[token].startswith(SPACE)

    def has_control(self, token: int) -> bool:
        """The piece contains a case control."""
        return token < len(self.text) and any(c in CONTROLS for c in self.text[token])

    def decode(self, ids: np.ndarray) -> tuple[str, np.ndarray]:
        """The document of some ids without BOS, and the bytes that each token stands for.

        A byte piece is one byte, the mark of a space one, a case control none, and whatever an
        escape stands before counts as itself.

        Returns:
            the text, and int64 [n].
        """
        spelled, owner = self._spell(ids)
        counts = np.zeros(len(ids), np.int64)
        text = self._read(spelled, owner, counts)
        return text, counts

    def _spell(self, ids: np.ndarray) -> tuple[list[str | int], list[int]]:
        """Characters and single bytes in their order, and the token that each belongs to."""
        spelled: list[str | int] = []
        owner: list[int] = []
        for place, token in enumerate(ids.tolist()):
            if token >= len(self.text):
                continue
            found: list[str | int] = (
                [int(self.byte[token])] if self.byte[token] >= 0 else list(self.text[token])
            )
            if self.dummy_prefix and not spelled and found[:1] == [SPACE]:
                found = found[1:]
            spelled += found
            owner += [place] * len(found)
        return spelled, owner

    def _read(self, spelled: list[str | int], owner: list[int], counts: np.ndarray) -> str:
        """Undo marks, byte pieces and case controls; `counts` gets the bytes of each token."""
        out = bytearray()
        mode = ""
        for item, place in zip(spelled, owner, strict=True):
            if isinstance(item, int):
                # Bytes in pieces join their neighbours to characters; a control has no say there.
                out.append(item)
                counts[place] += 1
                mode = ""
                continue
            if self.has_case and mode != ESCAPE and item in CONTROLS:
                mode = item
                continue
            raw = " " if item == SPACE and self.kind != "bytes" else item
            if mode == ESCAPE:
                raw = item  # an escaped mark is a character of the text
            elif mode and "a" <= item <= "z":
                raw = item.upper()
            if not (mode == ALL_CAPS and "a" <= item <= "z"):
                mode = ""
            encoded = raw.encode("utf-8", "surrogatepass")
            out += encoded
            counts[place] += len(encoded)
        return out.decode("utf-8", "replace")


def read_pieces(folder: Path) -> Pieces | None:
    """The pieces of a tokenizer's folder; None where it holds none that can be read."""
    description = folder / "tokenizer.json"
    if not description.is_file():
        return None
    kind = json.loads(description.read_text(encoding="utf-8"))["kind"]
    if kind == "bytes":
        byte = np.full(257, -1, np.int64)
        byte[:256] = np.arange(256)
        return Pieces(kind, [""] * 257, byte)
    model = folder / "tokenizer.model"
    return _parse(kind, model.read_bytes()) if model.is_file() else None


def _parse(kind: str, data: bytes) -> Pieces:
    text: list[str] = []
    byte: list[int] = []
    normalizer: dict[int, int | bytes] = {}
    for number, value in _walk(data):
        if number == 1 and isinstance(value, bytes):
            fields = dict(_walk(value))
            piece = bytes(fields.get(1, b"")).decode("utf-8")
            what = fields.get(3, 1)
            byte.append(int(piece[3:5], 16) if what == BYTE else -1)
            text.append("" if what in (UNKNOWN, CONTROL, UNUSED, BYTE) else piece)
        elif number == 3 and isinstance(value, bytes):
            normalizer = dict(_walk(value))
    return Pieces(
        kind,
        text,
        np.array(byte, np.int64),
        dummy_prefix=bool(normalizer.get(3, 1)),
        identity=not normalizer.get(2) and not normalizer.get(4, 1),
    )


def _walk(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field, value) of a protocol buffer's message."""
    at = 0
    while at < len(data):
        key, at = _number(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _number(data, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _number(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} in a SentencePiece model")
        yield number, data[at : at + size]
        at += size


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        part = data[at]
        value |= (part & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if part < 0x80:
            return value, at
