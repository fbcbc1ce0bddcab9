"""Many interleaved rANS coders in numpy: one step codes a symbol in each of n lanes.

Range asymmetric numeral systems (Duda 2013, arXiv:1311.2540), 16 bits at a time, interleaved as by
Giesen (2014, arXiv:1402.3392). A symbol is the distance of an integer from its expected value,
under a bell-shaped density whose width and position are the context. Tables use only operations
that IEEE 754 rounds exactly, so every machine builds the same.
"""

from __future__ import annotations

from functools import cache

import numpy as np

PRECISION = 15  # bits: the frequencies of a table add up to 2^15
LOW = 1 << 24  # a state lies in [2^24, 2^40)
STATE_BYTES = 5
WIDTHS = 160  # standard deviations from 2^-3, sixteen an octave
FRACTIONS = 16  # positions of the expected value between two integers
MIDDLE, ESCAPE = 128, 255  # the symbol of distance 0, and that of distances without one
SHAPES = 4
# POWERS[ZERO + k] is 2^(k / 16): four square roots, and products in order.
ZERO = 319
POWERS = np.cumprod(np.full(640, np.sqrt(np.sqrt(np.sqrt(np.sqrt(2.0)))))) / 2**20


class Tables:
    """Frequencies of symbols in every context (width * 16 + fraction), built where first needed.

    Args:
        shape: 0 to 3; the density is (1 + t^2 / 2^(k+1))^(-2^k), k = 2 + 2 * shape: bell-shaped,
            with the tails of Student's t for 0 and next to Gaussian for 3.
    """

    def __init__(self, shape: int) -> None:
        self.squarings = 2 + 2 * shape
        contexts = WIDTHS * FRACTIONS
        self.frequency = np.zeros((contexts, 256), np.uint32)
        self.first = np.zeros((contexts, 256), np.uint32)
        self.symbol = np.zeros((contexts, 1 << PRECISION), np.uint8)
        self.known = np.zeros(WIDTHS, bool)

    def need(self, context_N: np.ndarray) -> None:
        """Build the tables of these contexts where they are missing."""
        if not self.known[context_N >> 4].all():
            for width in np.unique(context_N >> 4):
                if not self.known[width]:
                    self._build(int(width))

    def _build(self, width: int) -> None:
        self.known[width] = True
        sigma = POWERS[ZERO + width - 48]
        # Eight points in each integer's interval stand for its integral.
        points = (np.arange(8 * ESCAPE) + 0.5) / 8 - 0.5 - MIDDLE
        for fraction in range(FRACTIONS):
            t = (points - (fraction - 8) / 16) / sigma
            density = 1 / (1 + t * t / (2 << self.squarings))
            for _ in range(self.squarings):
                density = density * density
            share = np.add.accumulate(density.reshape(-1, 8), axis=1)[:, -1]
            share = share / np.add.accumulate(share)[-1]
            counts = np.where(share > 2.0**-20, np.maximum(np.rint(share * 2**PRECISION), 1), 0)
            table = np.append(counts.astype(np.int64), 1)
            table[table.argmax()] += (1 << PRECISION) - table.sum()
            row = width * FRACTIONS + fraction
            self.frequency[row] = table
            self.first[row] = np.cumsum(table) - table
            self.symbol[row] = np.repeat(np.arange(256, dtype=np.uint8), table)


class Histogram:
    """One table for all, of the frequencies themselves.

    Args:
        frequency: of 256 symbols.

    Raises:
        ValueError: they do not add up to 2^15.
    """

    def __init__(self, frequency: np.ndarray) -> None:
        if len(frequency) != 256 or frequency.sum() != 1 << PRECISION:
            raise ValueError("the frequencies of a histogram do not add up")
        self.frequency = frequency.astype(np.uint32)[None]
        self.first = (np.cumsum(frequency) - frequency).astype(np.uint32)[None]
        self.symbol = np.repeat(np.arange(256, dtype=np.uint8), frequency)[None]

    def need(self, context_N: np.ndarray) -> None:
        """It is all there."""


@cache
def tables(shape: int) -> Tables:
    """The tables of a shape, shared."""
    return Tables(shape)


class Decoder:
    """Reads what `pgolf.codec.ans_encoder.write_words` wrote.

    Args:
        data: states of all lanes, then 16-bit words, little-endian.
        lanes: their number.

    Raises:
        ValueError: the data are too short, while reading or here.
    """

    def __init__(self, data: bytes, lanes: int) -> None:
        states = np.frombuffer(data, np.uint8, lanes * STATE_BYTES).reshape(lanes, STATE_BYTES)
        self.state_N = np.pad(states, ((0, 0), (0, 8 - STATE_BYTES))).view("<u8").ravel()
        self.words = np.frombuffer(data, "<u2", offset=lanes * STATE_BYTES)
        self.position = 0

    def step(self, context_N: np.ndarray, table: Tables | Histogram) -> np.ndarray:
        """One symbol for each of the first N lanes, int64."""
        table.need(context_N)
        state = self.state_N[: len(context_N)]
        slot = (state & ((1 << PRECISION) - 1)).astype(np.int64)
        symbol = table.symbol.take((context_N << PRECISION) + slot).astype(np.int64)
        cell = (context_N << 8) + symbol
        state >>= PRECISION
        state *= table.frequency.take(cell)
        state += (slot - table.first.take(cell)).astype(np.uint64)
        short = np.flatnonzero(state < LOW)
        end = self.position + len(short)
        if end > len(self.words):
            raise ValueError("the words end too early")
        state[short] = (state[short] << 16) | self.words[self.position : end]
        self.position = end
        return symbol
