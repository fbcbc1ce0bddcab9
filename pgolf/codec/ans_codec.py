"""`codec=ans`: integer codes within 0.1% of what an adaptive Gaussian model of their rows knows.

A matrix is read row by row or column by column, whichever is likelier to correlate; lanes of rANS
code up to 1,024 such rows at once, a value at a time. The model (`pgolf.codec.regression`) predicts
a value from those before it in its row, with second moments of all rows decoded so far, of this and
earlier matrices: neighbouring layers of a network write into the same residual stream. Nothing of
that is transmitted; a block of rows takes five bytes of settings, which the encoder has tried out.
Where the histogram of a matrix's codes does better, as for codes that are clipped hard, it is used.
fp16 numbers are integers too: their upper part is coded likewise, the rest is noise and stays raw.
Legend: R rows, C columns of what is predicted; N rows of a block, in lanes.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from itertools import islice, pairwise
from typing import Any

import brotli
import numpy as np

from pgolf.codec.rans import ESCAPE, LOW, MIDDLE, POWERS, WIDTHS, ZERO, Decoder, Histogram, tables
from pgolf.codec.regression import ONE, PANEL, Moments, coefficients
from pgolf.errors import UserError

Spec = tuple[tuple[int, ...], type]
# Lanes; bytes of plan, rANS, raw bits, values without a symbol; CRC-32 of all arrays.
HEADER = struct.Struct("<HIIIII")
MAX_PLAN_BYTES = 2**24
MAX_COLUMNS = 1024
BLOCK_BYTES = 5
HEAD_BYTES = 3  # what a lane's first state carries
HISTOGRAM = 255  # instead of a pool
BROTLI = 255  # instead of a shift: the array lies in the part that brotli packs
OWN_WEIGHT, KEPT = 3.0, 0.9
UNIT = 16  # expected values are multiples of 1/16
BORDERS = POWERS[::2]


class AnsCodec:
    """Prediction and rANS, for arrays instead of bytes.

    Args:
        lanes: rows that are coded side by side, 16 to 4096. Fewer make a smaller file, since a row
            is predicted from the blocks before its own, and a slower one to read.

    Raises:
        UserError: a value outside its range.
    """

    name = "ans"

    def __init__(self, *, lanes: int = 512) -> None:
        if not 16 <= lanes <= 4096:
            raise UserError(f"codec.lanes={lanes}: ans takes 16 (small) to 4096 (fast)")
        self.lanes = lanes

    def encode_arrays(self, arrays: list[np.ndarray]) -> tuple[bytes, list[int]]:
        # Not shipped with the weights: reading needs no encoder.
        from pgolf.codec.ans_encoder import Encoder

        return Encoder(self.lanes).encode(arrays)

    def decode_arrays(self, data: bytes, specs: list[Spec]) -> tuple[list[np.ndarray], list[int]]:
        return Reader(data).read(specs)


def width_of(columns: int) -> int:
    """Columns that are predicted together: the widest part that divides them evenly."""
    return next(w for w in range(min(columns, MAX_COLUMNS), 0, -1) if columns % w == 0)


def sixteenths(variance: Any) -> Any:
    """16 log2 of the standard deviation, rounded, int64."""
    return np.searchsorted(BORDERS, variance) - 160


def walk(
    matrix_CC: np.ndarray,
    values_CN: np.ndarray,
    step: Callable[[int, np.ndarray, np.ndarray], np.ndarray],
) -> None:
    """Fill a block column by column: `step(c, expected_N, errors_CN)` gives the values of one.

    Args:
        matrix_CC: from `coefficients`.
        expected_N, errors_CN: whole numbers, times 16; errors of columns below c are known.
    """
    errors_CN = np.empty(values_CN.shape)
    for first in range(0, len(values_CN), PANEL):
        last = min(first + PANEL, len(values_CN))
        before = matrix_CC[first:last, :first] @ errors_CN[:first]
        for c in range(first, last):
            mean_N = before[c - first] + matrix_CC[c, first:c] @ errors_CN[first:c]
            mean_N = np.maximum(np.minimum(np.rint(mean_N / ONE), 127 * UNIT), -127 * UNIT)
            values_CN[c] = step(c, mean_N, errors_CN)
            errors_CN[c] = UNIT * values_CN[c] - mean_N


class Spread:
    """The context of each value: how wide and where its distribution lies.

    Args:
        variance_C: of the errors, from `coefficients`.
        gain: eighths of an octave that the variances are too small.
        offset: sixteenths of an octave that the widths of the tables are then too small.
        damping: 0: rows are alike; 1 to 3: a row's own errors so far widen or narrow it, against
            16 * 4^(damping - 1) columns of the average.
    """

    def __init__(self, variance_C: np.ndarray, gain: int, offset: int, damping: int) -> None:
        variance_C = variance_C * POWERS[ZERO + 2 * gain]
        self.column_C = sixteenths(variance_C) + offset + 48
        self.weight_C = np.minimum(np.rint(ONE / variance_C), 2**16)
        self.columns = 16 << 2 * (damping - 1) if damping else 0
        self.row_N: Any = 0
        self.energy_N: Any = 0

    def see(self, c: int, errors_CN: np.ndarray) -> None:
        """Take the panel of errors before column c into account, at the start of each panel."""
        if self.columns and c and c % PANEL == 0:
            panel = slice(c - PANEL, c)
            self.energy_N = self.energy_N + self.weight_C[panel] @ errors_CN[panel] ** 2
            known_N = self.energy_N / (UNIT * UNIT * ONE)
            self.row_N = sixteenths((known_N + self.columns) / (c + self.columns))

    def context(self, c: int, place_N: np.ndarray) -> np.ndarray:
        """Context of column c; place_N: position of the expected value, 0 to 15."""
        width = np.minimum(np.maximum(self.row_N + self.column_C[c], 0), WIDTHS - 1)
        return width * UNIT + place_N


def nearest(mean_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The whole number next to an expected value, and which sixteenth of it that is."""
    shifted = mean_N.astype(np.int64) + UNIT // 2
    return shifted >> 4, shifted & 15


class Reader:
    """Decodes a stream, array by array.

    Raises:
        Exception: of several kinds, where it is cut or not what the encoder wrote.
    """

    def __init__(self, data: bytes) -> None:
        self.lanes, *sizes, self.crc = HEADER.unpack_from(data)
        ends = np.cumsum([HEADER.size, *sizes]).tolist()
        plan, words, raw, escaped = (data[a:b] for a, b in pairwise(ends))
        self.plan = iter(zlib.decompressobj().decompress(plan, MAX_PLAN_BYTES))
        self.rans = Decoder(words, self.lanes)
        self.raw, self.packed = raw, data[ends[-1] :]
        self.escaped = np.frombuffer(escaped, np.int8)
        self.pools: dict[tuple[int, int], Moments] = {}

    def read(self, specs: list[Spec]) -> tuple[list[np.ndarray], list[int]]:
        """Arrays, int8 of two dimensions or fp16, and the bytes that each took."""
        parts, sizes = [], []
        for shape, dtype in specs:
            start, count = self.rans.position, math.prod(shape)
            if not count or np.dtype(dtype) == np.int8:
                part, shift = self.codes(*shape) if count else np.zeros(0, np.int8), 0
            else:
                part, shift = self.numbers(count)
            parts.append((part, shift))
            raw_bits = count * shift if shift != BROTLI else 0
            sizes.append(2 * (self.rans.position - start) + raw_bits // 8)
        packed = sum(math.prod(s[0]) for s, p in zip(specs, parts, strict=True) if p[1] == BROTLI)
        for index, (_, shift) in enumerate(parts):
            if shift == BROTLI:
                sizes[index] = len(self.packed) * math.prod(specs[index][0]) // packed
        arrays = self.finish(specs, parts)
        crc = 0
        for array in arrays:
            crc = zlib.crc32(array.tobytes(), crc)
        if crc != self.crc:
            raise ValueError("its values differ from those encoded: use the numpy that wrote it")
        return arrays, sizes

    def codes(self, rows: int, columns: int) -> np.ndarray:
        """A matrix, int8 [rows, columns]."""
        direction = next(self.plan)
        if direction == HISTOGRAM:
            return self.counted(rows * columns).reshape(rows, columns)
        pool, transposed = divmod(direction, 2)
        if transposed:
            rows, columns = columns, rows
        width = width_of(columns)
        values_CR = np.empty((width, rows * columns // width))
        earlier, own = self.pools.get((pool, width)) or Moments(width), Moments(width)
        for start in range(0, values_CR.shape[1], self.lanes):
            block_CN = values_CR[:, start : start + self.lanes]
            self.block(earlier.plus(own, OWN_WEIGHT), block_CN)
            own.add(block_CN)
        self.pools[pool, width] = own.plus(earlier, KEPT)
        matrix = values_CR.T.astype(np.int8).reshape(rows, columns)
        return np.ascontiguousarray(matrix.T) if transposed else matrix

    def counted(self, count: int) -> np.ndarray:
        """Codes that do not depend on each other, int8, by a table that the plan holds."""
        low, distance = islice(self.plan, 2)
        table = np.frombuffer(bytes(islice(self.plan, 2 * distance + 2)), "<u2").astype(np.int64)
        histogram = Histogram(np.pad(table, (low, 255 - distance - low)))
        values = np.empty(count, np.int64)
        for start in range(0, count, self.lanes):
            part = values[start : start + self.lanes]
            part[:] = self.rans.step(np.zeros(len(part), np.int64), histogram)
        return (values - MIDDLE).astype(np.int8)

    def numbers(self, count: int) -> tuple[np.ndarray, int]:
        """fp16 numbers as 16-bit integers without their lowest bits, int64; and how many bits."""
        shift = next(self.plan)
        if shift == BROTLI:
            return np.zeros(0, np.int64), shift
        middle = next(self.plan) | next(self.plan) << 8
        values = np.empty((1, count))
        for start in range(0, count, self.lanes):
            self.block(Moments(1), values[:, start : start + self.lanes])
        return (values[0].astype(np.int64) << shift) + middle, shift

    def block(self, moments: Moments, values_CN: np.ndarray) -> None:
        belief, gain, offset, shape, damping = islice(self.plan, BLOCK_BYTES)
        matrix_CC, variance_C = coefficients(moments, belief)
        spread, table = Spread(variance_C, gain - 128, offset - 128, damping), tables(shape)

        def step(c: int, mean_N: np.ndarray, errors_CN: np.ndarray) -> np.ndarray:
            spread.see(c, errors_CN)
            near_N, place_N = nearest(mean_N)
            symbol_N = self.rans.step(spread.context(c, place_N), table)
            value_N = near_N + symbol_N - MIDDLE
            lost = np.flatnonzero(symbol_N == ESCAPE)
            if len(lost):
                value_N[lost], self.escaped = np.split(self.escaped, [len(lost)])
            return value_N

        walk(matrix_CC, values_CN, step)

    def finish(self, specs: list[Spec], parts: list[tuple[np.ndarray, int]]) -> list[np.ndarray]:
        """Add what does not pass through rANS: raw bits, and arrays that brotli packs better."""
        # The coder's first states carry bits as well.
        head = (self.rans.state_N - np.uint64(LOW)).view(np.uint8).reshape(-1, 8)[:, :HEAD_BYTES]
        bits = np.unpackbits(np.frombuffer(head.tobytes() + self.raw, np.uint8), bitorder="little")
        pairs = np.frombuffer(brotli.decompress(self.packed), np.uint8).reshape(2, -1)
        packed = np.ascontiguousarray(pairs.T).view("<u2").ravel()
        arrays: list[np.ndarray] = []
        for (shape, dtype), (part, shift) in zip(specs, parts, strict=True):
            count = math.prod(shape)
            if shift == BROTLI:
                part, packed = np.split(packed, [count])
            elif part.dtype != np.int8:
                low, bits = np.split(bits, [count * shift])
                part = part + low.reshape(count, shift) @ (1 << np.arange(shift))
            if part.dtype != np.int8:
                part = part.astype("<u2").view("<f2")
            arrays.append(part.astype(dtype).reshape(shape))
        return arrays
