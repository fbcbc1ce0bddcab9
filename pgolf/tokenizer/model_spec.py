"""The few facts of a SentencePiece .model file that its processor does not tell.

The file is a protocol buffer (sentencepiece_model.proto); only the fields read here are understood.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

TRAINER, NORMALIZER = 2, 3  # fields of ModelProto
MODEL_TYPE, BPE = 3, 2  # a field of TrainerSpec and one of its values
RULES = 1  # a field of NormalizerSpec
VARINT, EIGHT_BYTES, COUNTED, FOUR_BYTES = 0, 1, 2, 5  # wire types


@dataclass(frozen=True)
class ModelSpec:
    """How a model was made.

    Args:
        is_bpe: byte pair encoding, not unigram, word or character.
        rules: name of the normalisation rules, "user_defined" for somebody's own.
    """

    is_bpe: bool
    rules: str


def read_spec(serialized: bytes) -> ModelSpec:
    """The facts of a model that SentencePiece has already accepted."""
    sections = {TRAINER: b"", NORMALIZER: b""}
    for field, value in _fields(serialized):
        if field in sections and isinstance(value, bytes):
            sections[field] = value
    rules = dict(_fields(sections[NORMALIZER])).get(RULES, b"")
    assert isinstance(rules, bytes)
    is_bpe = dict(_fields(sections[TRAINER])).get(MODEL_TYPE) == BPE
    return ModelSpec(is_bpe, rules.decode("utf-8", "replace"))


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field of a message, in file order."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == VARINT:
            number, place = _varint(message, place)
            yield key >> 3, number
            continue
        size = {EIGHT_BYTES: 8, FOUR_BYTES: 4}.get(kind)
        if kind == COUNTED:
            size, place = _varint(message, place)
        assert size is not None, f"wire type {kind} in a SentencePiece model"
        yield key >> 3, message[place : place + size]
        place += size


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and the place after it."""
    value = shift = 0
    while message[place] & 0x80:
        value |= (message[place] & 0x7F) << shift
        shift, place = shift + 7, place + 1
    return value | message[place] << shift, place + 1
