"""Orders in which the bytes of an array can lie before a byte coder, and back.

rows: as it lies; columns: the transposed matrix; sorted: rows so that each is near the one before,
column by column, behind their numbers; bytes: all first bytes of its values, then all second ones.
"""

from __future__ import annotations

import numpy as np

ORDERS = ("rows", "columns", "sorted", "bytes")


def arrange(array: np.ndarray, order: str, rows: np.ndarray | None = None) -> bytes:
    """The array's bytes in an order.

    Args:
        rows: for "sorted", the numbers of the rows in their new order, of at most 65,536.
    """
    if order == "sorted":
        assert rows is not None
        return arrange(rows.astype("<u2"), "bytes") + arrange(array[rows], "columns")
    if order == "bytes":
        return array.reshape(-1, 1).view(np.uint8).T.tobytes()
    return array.T.tobytes() if order == "columns" else array.tobytes()


def restore(data: bytes, order: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The inverse of `arrange`.

    Raises:
        ValueError: the data have another length, or name rows that do not exist.
    """
    if order == "sorted":
        numbers, values = data[: 2 * shape[0]], data[2 * shape[0] :]
        rows = restore(numbers, "bytes", shape[:1], np.dtype("<u2"))
        array = np.empty(shape, dtype)
        if not np.array_equal(np.sort(rows), np.arange(shape[0])):
            raise ValueError("the numbers of sorted rows are no permutation")
        array[rows] = restore(values, "columns", shape, dtype)
        return array
    flat = np.frombuffer(data, np.uint8)
    if order == "bytes":
        flat = np.ascontiguousarray(flat.reshape(dtype.itemsize, -1).T).ravel()
    array = flat.view(dtype).reshape(shape[::-1] if order == "columns" else shape)
    return (array.T if order == "columns" else array).copy()
