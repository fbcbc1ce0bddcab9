"""How tensors lie in an artifact's streams, before the codec: `Codes` to bytes and back.

All codes of one width form a stream, so do all scales and all fp16 tensors. Inside, tensors follow
in the order of the list of entries, which is all that a reader needs. Measured on a V15 artifact
with brotli 11: codes column by column are 0.6% smaller than row by row, because columns differ in
their spread while SDClip gives all rows the same; fp16 with low and high bytes apart is 4% smaller.
Legend: R rows, C columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgolf.quant.codes import Codes, IntTensor

SCALES, FP16 = "scales", "fp16"
MAX_DECODED_BYTES = 2**32


@dataclass(frozen=True)
class Entry:
    """A tensor of the artifact.

    Args:
        name: as in the model's state dict.
        shape: two numbers where it has codes.
        bits: width of its codes, 2 to 8; None is fp16.
    """

    name: str
    shape: tuple[int, ...]
    bits: int | None

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    def parts(self) -> list[tuple[str, int]]:
        """(stream, bytes) of what the tensor puts where."""
        if self.bits is None:
            return [(FP16, 2 * self.elements)]
        return [(f"codes{self.bits}", self.elements), (SCALES, 2 * self.shape[0])]

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "shape": list(self.shape), "bits": self.bits}


def parse_entry(value: dict[str, Any]) -> Entry:
    """An entry from a header that may say anything.

    Raises:
        ValueError: it is no entry, or asks for more than `MAX_DECODED_BYTES`.
    """
    name, shape, bits = value["name"], value["shape"], value["bits"]
    if not isinstance(name, str) or not isinstance(shape, list) or len(shape) > 8:
        raise ValueError(f"tensor {name!r} of shape {shape!r}")
    if not all(type(size) is int and 0 <= size <= MAX_DECODED_BYTES for size in shape):
        raise ValueError(f"tensor {name!r} of shape {shape!r}")
    if bits is not None and not (type(bits) is int and 2 <= bits <= 8 and len(shape) == 2):
        raise ValueError(f"tensor {name!r} of shape {shape!r} with {bits!r} bits")
    return Entry(name, tuple(shape), bits)


def stream_sizes(entries: list[Entry]) -> dict[str, int]:
    """Bytes of each stream before the codec, in the order of the file.

    Raises:
        ValueError: two tensors of one name, or more than `MAX_DECODED_BYTES` in all.
    """
    if len({entry.name for entry in entries}) < len(entries):
        raise ValueError("two tensors of one name")
    sizes: dict[str, int] = {}
    for entry in entries:
        for stream, num_bytes in entry.parts():
            sizes[stream] = sizes.get(stream, 0) + num_bytes
    if sum(sizes.values()) > MAX_DECODED_BYTES:
        raise ValueError(f"{sum(sizes.values()):,} bytes of tensors")
    return {stream: sizes[stream] for stream in sorted(sizes)}


def streams_of(codes: Codes) -> tuple[list[Entry], dict[str, bytes]]:
    """The entries and streams of all tensors."""
    entries, pieces = [], []
    for name, value in codes.tensors.items():
        if isinstance(value, IntTensor):
            entry = Entry(name, tuple(value.codes.shape), value.bits)
            contents = [_code_bytes(value), _fp16_pairs(value.scales)]
        else:
            entry = Entry(name, tuple(value.shape), None)
            contents = [_fp16_pairs(value)]
        entries.append(entry)
        pieces += [
            (part[0], content) for part, content in zip(entry.parts(), contents, strict=True)
        ]
    streams = {
        stream: b"".join(content for own, content in pieces if own == stream)
        for stream in stream_sizes(entries)
    }
    return entries, {name: _shuffle(name, data) for name, data in streams.items()}


def codes_of(entries: list[Entry], streams: dict[str, bytes]) -> Codes:
    """The inverse of `streams_of`; streams have the sizes that `stream_sizes` gives.

    Raises:
        ValueError: a code beyond its width.
    """
    data = {name: _unshuffle(name, stream) for name, stream in streams.items()}
    position = dict.fromkeys(data, 0)
    tensors: dict[str, IntTensor | Tensor] = {}
    for entry in entries:
        contents = []
        for stream, num_bytes in entry.parts():
            start = position[stream]
            contents.append(data[stream][start : start + num_bytes])
            position[stream] = start + num_bytes
        if entry.bits is None:
            tensors[entry.name] = _fp16_tensor(contents[0]).reshape(entry.shape)
        else:
            codes_RC = _codes_tensor(contents[0], entry)
            tensors[entry.name] = IntTensor(codes_RC, _fp16_tensor(contents[1]), entry.bits)
    return Codes(tensors)


def _code_bytes(value: IntTensor) -> bytes:
    # Unsigned with the zero in the middle; uint8 wraps as two's complement does.
    offset = np.uint8(2 ** (value.bits - 1))
    codes_CR = value.codes.numpy().T.view(np.uint8) + offset
    return codes_CR.tobytes()


def _codes_tensor(content: np.ndarray, entry: Entry) -> Tensor:
    assert entry.bits is not None
    if content.size and content.max() >= 2**entry.bits:
        raise ValueError(f"a code of {entry.name} exceeds {entry.bits} bits")
    codes_CR = (content - np.uint8(2 ** (entry.bits - 1))).reshape(entry.shape[::-1])
    return torch.from_numpy(np.ascontiguousarray(codes_CR.T).view(np.int8))


def _fp16_pairs(value: Tensor) -> bytes:
    return value.numpy().astype("<f2").tobytes()


def _fp16_tensor(content: np.ndarray) -> Tensor:
    return torch.from_numpy(content.view("<f2").astype(np.float16))


def _shuffle(stream: str, data: bytes) -> bytes:
    if stream not in (SCALES, FP16):
        return data
    return np.frombuffer(data, np.uint8).reshape(-1, 2).T.tobytes()


def _unshuffle(stream: str, data: bytes) -> np.ndarray:
    values = np.frombuffer(data, np.uint8)
    if stream not in (SCALES, FP16):
        return values
    return np.ascontiguousarray(values.reshape(2, -1).T).ravel()
