"""Tables are distributions near the exact ones; what is written is read, at the promised size."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pgolf.codec.ans_encoder import Block, rounded, write_words
from pgolf.codec.rans import (
    ESCAPE,
    MIDDLE,
    POWERS,
    PRECISION,
    SHAPES,
    STATE_BYTES,
    WIDTHS,
    ZERO,
    Decoder,
    Histogram,
    tables,
)


def test_powers_are_powers() -> None:
    for k in (-300, -16, 0, 1, 48, 300):
        assert POWERS[ZERO + k] == pytest.approx(2 ** (k / 16), rel=1e-12)


def test_the_narrowest_table_follows_the_gaussian_integral() -> None:
    table, width = tables(SHAPES - 1), 68  # a standard deviation of 2^1.25
    sigma = 2 ** (width / 16 - 3)
    for place in (0, 8, 15):
        table.need(np.array([width * 16 + place]))
        counts = table.frequency[width * 16 + place].astype(float)
        assert counts.sum() == 2**PRECISION and counts[ESCAPE] == 1
        for distance in range(-5, 6):
            low, high = (
                0.5 * math.erf((distance + edge - (place - 8) / 16) / sigma / math.sqrt(2))
                for edge in (-0.5, 0.5)
            )
            share = counts[MIDDLE + distance] / 2**PRECISION
            assert share == pytest.approx(high - low, rel=0.02, abs=2**-PRECISION)


@pytest.mark.parametrize("shape", range(SHAPES))
def test_every_table_adds_up_and_names_each_slot_once(shape: int) -> None:
    table = tables(shape)
    contexts = np.array([0, 7, 16 * 20 + 3, 16 * WIDTHS - 1])
    table.need(contexts)
    for context in contexts:
        counts = np.bincount(table.symbol[context], minlength=256)
        assert (counts == table.frequency[context]).all()
        assert (np.cumsum(counts) - counts == table.first[context]).all()


def test_symbols_come_back_and_take_the_bits_of_their_frequencies() -> None:
    random, lanes = np.random.default_rng(0), 32
    blocks, expected, bits = [], [], 0.0
    for shape, columns, rows in ((0, 300, lanes), (3, 500, 20), (1, 1, 1)):
        context = random.integers(16 * 30, 16 * 40, (columns, rows))
        table = tables(shape)
        table.need(context.ravel())
        slot = random.integers(0, 2**PRECISION, (columns, rows))
        symbol = table.symbol[context, slot]
        bits += (PRECISION - np.log2(table.frequency[context, symbol])).sum()
        blocks.append(Block(context.astype(np.uint16), symbol, table))
        expected.append(symbol)
    data = write_words(blocks, b"carried", lanes)
    decoder = Decoder(data, lanes)
    for block, symbol in zip(blocks, expected, strict=True):
        for context, wanted in zip(block.context.astype(np.int64), symbol, strict=True):
            assert (decoder.step(context, block.table) == wanted).all()
    assert decoder.position == len(decoder.words)
    assert decoder.state_N.view(np.uint8).reshape(lanes, 8)[0, :3].tobytes() == b"car"
    assert bits / 8 <= len(data) + 3 * lanes
    assert len(data) <= 1.001 * bits / 8 + lanes * STATE_BYTES


def test_words_that_end_too_early_are_refused() -> None:
    decoder = Decoder(bytes([0, 0, 0, 1, 0]) * 4, 4)
    with pytest.raises(ValueError, match="too early"):
        for _ in range(100):
            decoder.step(np.full(4, 16 * 40), tables(0))
    with pytest.raises(ValueError):
        Decoder(b"short", 4)


def test_a_histogram_has_to_add_up() -> None:
    counts = np.bincount([3, 3, 200], minlength=256)
    assert (np.unique(Histogram(rounded(counts)).symbol) == [3, 200]).all()
    with pytest.raises(ValueError, match="do not add up"):
        Histogram(counts)
