"""The other half of `codec=pergroup`: tries coders and orders, and writes the stream."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from pgolf.codec.ans_codec import AnsCodec
from pgolf.codec.arrange import ORDERS, arrange
from pgolf.codec.pergroup_codec import BYTE_CODERS, CHOICE, CODERS, PLAN
from pgolf.progress import track

PIECE_BYTES = 2**14
MAX_SORTED_ROWS = 2**13  # their distances take 4 bytes a pair
# Where a piece says that a byte coder gives more than this times what ans does, it is not tried on
# the whole; and what is saved in all has to be worth encoding the rest once more.
HOPELESS = 1.005
MIN_SAVED_BYTES = 256
ANS = CODERS.index("ans") * len(ORDERS)


@dataclass(frozen=True)
class Coded:
    """An array by a byte coder; its choice is coder * 4 + order."""

    choice: int
    data: bytes


def encode(arrays: list[np.ndarray], coders: list[str], candidates: int) -> tuple[bytes, list[int]]:
    """The stream, and the bytes that each array takes in it."""
    whole, ans_sizes = b"", dict[int, int]()
    if "ans" in coders:
        whole, sizes = AnsCodec().encode_arrays(arrays)
        ans_sizes = dict(enumerate(sizes))
    byte_coders = [name for name in coders if name != "ans"]
    total = sum(array.nbytes for array in arrays) / 1e6
    found: list[Coded | None] = []
    with ThreadPoolExecutor() as pool, track("choose coders", total, "MB") as bar:
        known = [ans_sizes.get(index) for index in range(len(arrays))]
        results = pool.map(lambda a, k: best(a, k, byte_coders, candidates), arrays, known)
        for array, result in zip(arrays, results, strict=True):
            found.append(result)
            bar.advance(array.nbytes / 1e6)
    saved = sum((known[i] or 0) - len(c.data) for i, c in enumerate(found) if c)
    if whole and saved < MIN_SAVED_BYTES:
        found = [None] * len(arrays)
    left = [index for index, coded in enumerate(found) if coded is None]
    if 0 < len(left) < len(arrays):
        whole, sizes = AnsCodec().encode_arrays([arrays[index] for index in left])
        ans_sizes = dict(zip(left, sizes, strict=True))
    coded = [each for each in found if each is not None]
    plan = [CHOICE.pack(c.choice, len(c.data)) if c else CHOICE.pack(ANS, 0) for c in found]
    packed = zlib.compress(b"".join(plan), 9)
    rest = whole if left else b""
    data = b"".join([PLAN.pack(len(packed)), packed, *(each.data for each in coded), rest])
    return data, [len(c.data) if c else ans_sizes[index] for index, c in enumerate(found)]


def best(
    array: np.ndarray, ans_bytes: int | None, coders: list[str], candidates: int
) -> Coded | None:
    """The smallest coding by a byte coder; None where ans takes no more."""
    tried = []
    for order, data in arrangements(array):
        start = max(0, (len(data) - PIECE_BYTES) // 2)
        piece = data[start : start + PIECE_BYTES]
        for name in coders:
            size = len(BYTE_CODERS[name]().encode(piece)) * len(data) / max(len(piece), 1)
            if ans_bytes is None or size <= HOPELESS * ans_bytes + 64:
                tried.append((size, CODERS.index(name) * len(ORDERS) + order, data))
    coded = [
        Coded(choice, BYTE_CODERS[CODERS[choice // len(ORDERS)]]().encode(data))
        for _, choice, data in sorted(tried, key=lambda each: each[:2])[:candidates]
    ]
    smallest = min(coded, key=lambda each: len(each.data), default=None)
    if smallest is not None and ans_bytes is not None and len(smallest.data) >= ans_bytes:
        return None
    return smallest


def arrangements(array: np.ndarray) -> Iterator[tuple[int, bytes]]:
    """All orders that make sense for an array, by number."""
    orders = ["rows"]
    if array.dtype != np.int8:
        orders.append("bytes")
    elif array.size:
        orders += ["columns", "sorted"] if len(array) <= MAX_SORTED_ROWS else ["columns"]
    for order in orders:
        rows = similar(array) if order == "sorted" else None
        yield ORDERS.index(order), arrange(array, order, rows)


def similar(matrix: np.ndarray) -> np.ndarray:
    """Numbers of the rows, each the nearest (Euclid) to the one before that is left."""
    values = matrix.astype(np.float32)
    squares = (values * values).sum(axis=1)
    distance = values @ values.T
    distance *= -2
    distance += squares[:, None]
    distance += squares
    order = np.zeros(len(matrix), np.int64)
    for place in range(1, len(order)):
        distance[:, order[place - 1]] = np.inf
        order[place] = distance[order[place - 1]].argmin()
    return order
