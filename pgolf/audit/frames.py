"""Messages between the auditor and a scorer's process: arrays with their shapes, and nothing else.

A kind of one byte, the number of arrays, then of each its type, its number of dimensions, those as
uint64, and the values. Nothing in it is executed, and nothing is believed before it is checked.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

import numpy as np

HELLO, BEGIN, FEED, ANSWER, ERROR = b"H", b"B", b"F", b"A", b"E"
TYPES = {b"q": np.int64, b"e": np.float16, b"f": np.float32, b"d": np.float64, b"c": np.uint8}
CODES = {np.dtype(kind): code for code, kind in TYPES.items()}
MAX_ARRAYS, MAX_DIMENSIONS = 2, 2

Read = Callable[[int], bytes]


class FrameError(ValueError):
    """The bytes are no message, or a larger one than was agreed."""


def pack(kind: bytes, *arrays: np.ndarray) -> bytes:
    """A message.

    Raises:
        FrameError: an array of another type than those of TYPES.
    """
    parts = [kind, bytes([len(arrays)])]
    for array in arrays:
        code = CODES.get(array.dtype)
        if code is None:
            raise FrameError(f"an array of {array.dtype}: use float16, float32 or float64")
        parts += [code, struct.pack(f"<B{array.ndim}Q", array.ndim, *array.shape)]
        parts.append(np.ascontiguousarray(array).tobytes())
    return b"".join(parts)


def unpack(read: Read, most_bytes: int) -> tuple[bytes, list[np.ndarray]]:
    """The next message.

    Args:
        read: gives exactly so many bytes.
        most_bytes: of all its arrays together.

    Raises:
        FrameError: it is none; EOFError and others as `read` raises them.
    """
    kind, count = read(1), read(1)[0]
    if kind not in (HELLO, BEGIN, FEED, ANSWER, ERROR) or count > MAX_ARRAYS:
        raise FrameError(f"a message begins with {kind!r} and {count} arrays")
    arrays = []
    for _ in range(count):
        code, dimensions = read(1), read(1)[0]
        if code not in TYPES or dimensions > MAX_DIMENSIONS:
            raise FrameError(f"an array of type {code!r} and {dimensions} dimensions")
        shape = struct.unpack(f"<{dimensions}Q", read(8 * dimensions))
        kept = np.dtype(TYPES[code])
        num_bytes = math.prod(shape) * kept.itemsize
        most_bytes -= num_bytes
        if most_bytes < 0:
            raise FrameError(f"an array of the shape {shape} is larger than what was asked for")
        arrays.append(np.frombuffer(read(num_bytes), kept).reshape(shape))
    return kind, arrays
