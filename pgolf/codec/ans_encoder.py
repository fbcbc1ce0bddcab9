"""The other half of `codec=ans`: chooses settings for each matrix and block, and writes.

Choices rest on estimates that need not be exact; what is coded follows the decoder's arithmetic.
Legend: as in pgolf/codec/ans_codec.py.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import brotli
import numpy as np

from pgolf.codec.ans_choice import (
    GAUSS_BITS,
    SAMPLE_ROWS,
    best_belief,
    contexts,
    cost,
    measure,
    oriented,
)
from pgolf.codec.ans_codec import (
    BLOCK_BYTES,
    BROTLI,
    HEAD_BYTES,
    HEADER,
    HISTOGRAM,
    KEPT,
    OWN_WEIGHT,
    Spread,
    nearest,
    walk,
    width_of,
)
from pgolf.codec.rans import (
    ESCAPE,
    LOW,
    MIDDLE,
    PRECISION,
    STATE_BYTES,
    Histogram,
    Tables,
    tables,
)
from pgolf.codec.regression import BELIEFS, PANEL, Moments, coefficients
from pgolf.progress import track

DAMPINGS = 4
WORTHWHILE = 0.998  # a pool is known to predict a matrix if its bits shrink below this


@dataclass(frozen=True)
class Block:
    """Symbols of a block with their contexts, both [C, N], and its tables."""

    context: np.ndarray
    symbol: np.ndarray
    table: Tables | Histogram


class Encoder:
    """Encodes a list of arrays once.

    Args:
        lanes: rows that are coded side by side at most.
    """

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.plan = bytearray()
        self.escaped = bytearray()
        self.blocks: list[Block] = []
        self.raw: list[np.ndarray] = []
        self.packed: list[np.ndarray] = []
        self.pools: dict[tuple[int, int], Moments] = {}
        self.kinds: dict[tuple[int, int, int], int] = {}
        self.belief = len(BELIEFS) // 2
        self.bits = 0.0

    def encode(self, arrays: list[np.ndarray]) -> tuple[bytes, list[int]]:
        """The whole stream, and the bytes that each array takes in it.

        Args:
            arrays: int8 of two dimensions, or fp16.
        """
        total = sum(array.size for array in arrays)
        widest = max((max(a.shape) if a.dtype == np.int8 else a.size for a in arrays), default=1)
        # A lane takes two bytes more than it carries.
        self.lanes = max(1, min(self.lanes, widest, max(16, total // 8192)))
        sizes, crc = [], 0
        with track("encode", total / 1e6, "M values") as bar:
            for array in arrays:
                self.bits = 0.0
                if array.size and array.dtype == np.int8:
                    self.codes(array)
                elif array.size:
                    self.numbers(array.ravel().view(np.int16))
                sizes.append(int(self.bits / 8))
                crc = zlib.crc32(array.tobytes(), crc)
                bar.advance(array.size / 1e6)
        return self.join(crc), sizes

    def join(self, crc: int) -> bytes:
        """Header and parts, as `Reader` takes them apart."""
        raw = np.packbits(np.concatenate([np.zeros(0, np.uint8), *self.raw]), bitorder="little")
        head, rest = np.split(raw, [HEAD_BYTES * self.lanes])
        words = write_words(self.blocks, head.tobytes(), self.lanes)
        parts = [zlib.compress(self.plan, 9), words, rest.tobytes(), bytes(self.escaped)]
        pairs = np.concatenate([np.zeros(0, np.int16), *self.packed])
        header = HEADER.pack(self.lanes, *map(len, parts), crc)
        return b"".join([header, *parts, packed_bytes(pairs)])

    def codes(self, array: np.ndarray) -> None:
        """A matrix, int8 [R, C]: predicted, or by its histogram if that takes less."""
        before = len(self.plan), len(self.escaped), len(self.blocks), dict(self.pools)
        self.predicted(array)
        counts = np.bincount(array.ravel().astype(np.int64) + MIDDLE, minlength=256)
        present = np.flatnonzero(counts)
        low, high = int(present[0]), int(present[-1])
        share = counts[present] / array.size
        bits = -array.size * float((share * np.log2(share)).sum()) + 16 * (high - low + 2)
        if bits < self.bits:
            del self.plan[before[0] :], self.escaped[before[1] :], self.blocks[before[2] :]
            self.pools, self.bits = before[3], 0.0
            frequency = rounded(counts)
            table = frequency[low : high + 1].astype("<u2").tobytes()
            self.plan += bytes([HISTOGRAM, low, high - low]) + table
            symbol = array.ravel().astype(np.int64) + MIDDLE
            whole = array.size // self.lanes * self.lanes
            for part in (symbol[:whole].reshape(-1, self.lanes), symbol[None, whole:]):
                if part.size:
                    self.add(np.zeros_like(part), part, Histogram(frequency))

    def predicted(self, array: np.ndarray) -> None:
        """A matrix by its rows' second moments."""
        transposed, pool, width = self.direction(array)
        self.plan.append(2 * pool + transposed)
        values_CR = oriented(array, transposed, width)
        earlier, own = self.pools.get((pool, width)) or Moments(width), Moments(width)
        for start in range(0, values_CR.shape[1], self.lanes):
            block_CN = values_CR[:, start : start + self.lanes]
            moments = earlier.plus(own, OWN_WEIGHT)
            self.belief, _ = best_belief(moments, block_CN, self.belief)
            self.block(moments, block_CN, self.belief)
            own.add(block_CN)
        self.pools[pool, width] = own.plus(earlier, KEPT)

    def direction(self, array: np.ndarray) -> tuple[int, int, int]:
        """Whether to transpose, which pool of moments to use, and its columns.

        Where no pool predicts anything yet, the smaller side is predicted, and matrices of a kind
        (orientation, columns, spread) share a pool.
        """
        found = []
        for transposed in (0, 1):
            width = width_of(array.shape[1 - transposed])
            sample_CN = oriented(array, transposed, width)[:, :SAMPLE_ROWS]
            flat = cost(Moments(width), 0, sample_CN)
            for (pool, columns), moments in self.pools.items():
                if columns == width:
                    bits = best_belief(moments, sample_CN, self.belief)[1]
                    found.append((bits / flat, transposed, pool, width))
        if found and min(found)[0] < WORTHWHILE:
            return min(found)[1:]
        transposed = int(array.shape[0] < array.shape[1])
        width = width_of(array.shape[1 - transposed])
        kind = (transposed, width, round(2 * np.log2(array.std() + 0.1)))
        return transposed, self.kinds.setdefault(kind, len(self.kinds) % 128), width

    def numbers(self, value: np.ndarray) -> None:
        """fp16 numbers as int16: their upper part is coded, or brotli packs them whole."""
        middle = int(np.median(value))
        away = value.astype(np.int64) - middle
        widest, typical = np.log2(np.abs(away).max() + 1), np.log2(away.std() + 1)
        # The upper part is an int8, and about eight wide.
        shift = max(0, int(widest) - 6, int(typical) - 3)
        upper = away >> shift
        bits = len(value) * (np.log2(upper.std() + 0.3) + GAUSS_BITS + shift)
        packed_bits = 8.0 * len(packed_bytes(value))
        if packed_bits <= bits + 8 * (BLOCK_BYTES + 3):
            self.plan.append(BROTLI)
            self.packed.append(value)
            self.bits += packed_bits
            return
        self.plan += bytes([shift, middle & 255, middle >> 8 & 255])
        for start in range(0, len(value), self.lanes):
            block = upper[None, start : start + self.lanes].astype(np.float64)
            self.block(Moments(1), block, 0)
        self.raw.append(((away[:, None] >> np.arange(shift)) & 1).astype(np.uint8).ravel())
        self.bits += len(value) * shift

    def block(self, moments: Moments, values_CN: np.ndarray, belief: int) -> None:
        """Code N rows."""
        matrix_CC, variance_C = coefficients(moments, belief)
        place_CN, symbol_CN = np.empty((2, *values_CN.shape), np.int64)
        errors = np.empty(0)

        def step(c: int, mean_N: np.ndarray, errors_CN: np.ndarray) -> np.ndarray:
            nonlocal errors
            errors = errors_CN
            near_N, place_CN[c] = nearest(mean_N)
            symbol_N = values_CN[c].astype(np.int64) - near_N + MIDDLE
            lost = (symbol_N < 0) | (symbol_N >= ESCAPE)
            symbol_CN[c] = np.where(lost, ESCAPE, symbol_N)
            return values_CN[c]

        walk(matrix_CC, values_CN, step)
        size = (errors**2 / (256 * variance_C[:, None])).mean()
        gain = int(np.clip(np.rint(8 * np.log2(size + 2.0**-14)), -127, 127))
        found = [
            (*measure(Spread(variance_C, gain, 0, damping), errors, place_CN, symbol_CN), damping)
            for damping in (range(DAMPINGS) if len(values_CN) > PANEL else (0,))
        ]
        _, offset, shape, damping = min(found)
        context_CN = contexts(Spread(variance_C, gain, offset, damping), errors, place_CN)
        # A table may lack the symbol, far out.
        tables(shape).need(context_CN.ravel())
        symbol_CN[tables(shape).frequency[context_CN, symbol_CN] == 0] = ESCAPE
        escaped = values_CN[symbol_CN == ESCAPE].astype(np.int8)
        self.escaped += escaped.tobytes()
        self.bits += 8 * len(escaped)
        self.plan += bytes([belief, gain + 128, offset + 128, shape, damping])
        self.add(context_CN, symbol_CN, tables(shape))

    def add(self, context_CN: np.ndarray, symbol_CN: np.ndarray, table: Tables | Histogram) -> None:
        """Symbols to be coded, all of which have a frequency."""
        frequency = table.frequency[context_CN, symbol_CN]
        self.bits += float((PRECISION - np.log2(frequency)).sum())
        self.blocks.append(Block(context_CN.astype(np.uint16), symbol_CN.astype(np.uint8), table))


def rounded(counts: np.ndarray) -> np.ndarray:
    """Frequencies that add up to 2^15, at least 1 where something was counted."""
    scaled = np.rint(counts * ((1 << PRECISION) / counts.sum())).astype(np.int64)
    frequency = np.where(counts > 0, np.maximum(scaled, 1), 0)
    frequency[frequency.argmax()] += (1 << PRECISION) - frequency.sum()
    return frequency


def write_words(blocks: list[Block], head: bytes, lanes: int) -> bytes:
    """States and words that `Decoder` reads: coding runs from the last symbol to the first.

    Args:
        head: up to `HEAD_BYTES` a lane that the first states carry.
    """
    padded = np.frombuffer(head.ljust(HEAD_BYTES * lanes, b"\0"), np.uint8).reshape(lanes, -1)
    state_N = LOW + padded.astype(np.uint64) @ np.array([1, 256, 65536], np.uint64)
    words: list[np.ndarray] = []
    for block in reversed(blocks):
        table = block.table
        for context, symbol in zip(block.context[::-1], block.symbol[::-1], strict=True):
            cell = context.astype(np.int64) * 256 + symbol
            frequency = table.frequency.take(cell).astype(np.uint64)
            state = state_N[: len(cell)]
            full = np.flatnonzero(state >= frequency << np.uint64(24 - PRECISION + 16))
            words.append(state[full].astype("<u2"))
            state[full] >>= np.uint64(16)
            rest = state % frequency
            state[:] = (state // frequency << np.uint64(PRECISION)) + rest + table.first.take(cell)
    states = state_N.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :STATE_BYTES]
    return b"".join([states.tobytes(), *(word.tobytes() for word in reversed(words))])


def packed_bytes(value: np.ndarray) -> bytes:
    """16-bit values by brotli, all low bytes first."""
    packed: bytes = brotli.compress(value.view(np.uint8).reshape(-1, 2).T.tobytes())
    return packed
