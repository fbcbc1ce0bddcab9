"""Lists of arrays as an artifact has them: small integer codes and fp16 numbers of any kind."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st


@st.composite
def any_arrays(draw: st.DrawFn) -> list[np.ndarray]:
    """Up to four arrays: noise of 2 to 8 bits, constants, extremes, correlated rows; any fp16."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    arrays = []
    for kind in draw(st.lists(st.sampled_from(KINDS), max_size=4)):
        if kind == "fp16":
            shape = tuple(draw(st.lists(st.integers(0, 9), max_size=3)))
            bits = random.integers(0, draw(st.sampled_from([1, 40, 2**16])), shape)
            arrays.append(bits.astype(np.uint16).view(np.float16))
        else:
            arrays.append(codes(kind, draw(st.integers(0, 70)), draw(st.integers(0, 70)), random))
    return arrays


KINDS = ("noise2", "noise5", "noise8", "constant", "extremes", "correlated", "outliers", "fp16")


def codes(kind: str, rows: int, columns: int, random: np.random.Generator) -> np.ndarray:
    """A matrix of a kind, int8."""
    shape = (rows, columns)
    if kind.startswith("noise"):
        limit = 2 ** (int(kind[5:]) - 1) - 1
        return random.integers(-limit, limit + 1, shape).astype(np.int8)
    if kind == "constant":
        return np.full(shape, random.integers(-128, 128), np.int8)
    if kind == "extremes":
        return random.choice(np.array([-128, 127], np.int8), shape)
    if kind == "outliers":
        return np.where(random.random(shape) < 0.02, 127, random.integers(0, 2, shape)).astype(
            np.int8
        )
    return correlated(rows, columns, random)


def correlated(rows: int, columns: int, random: np.random.Generator, rank: int = 4) -> np.ndarray:
    """Rows that share directions, as those of trained matrices do."""
    common = random.normal(size=(rows, rank)) @ random.normal(size=(rank, columns))
    return np.clip(np.rint(common + random.normal(size=(rows, columns)) * 2), -31, 31).astype(
        np.int8
    )


def entropy_bytes(array: np.ndarray) -> float:
    """What a memoryless coder needs at least."""
    share = np.unique(array, return_counts=True)[1] / array.size
    return -float((share * np.log2(share)).sum()) * array.size / 8


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    """Equal in shape, dtype and every bit."""
    return [(a.shape, a.dtype, a.tobytes()) for a in first] == [
        (b.shape, b.dtype, b.tobytes()) for b in second
    ]


def specs(arrays: list[np.ndarray]) -> list[tuple[tuple[int, ...], type]]:
    """What a decoder is told."""
    return [(array.shape, array.dtype.type) for array in arrays]
