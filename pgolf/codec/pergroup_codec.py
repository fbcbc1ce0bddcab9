"""`codec=pergroup`: for each array the order and the coder that make it smallest.

Grouping tensors by what packs them best is due to PR #1855. With `ans` among the coders, matrices
of integer codes go there and are coded together; on real weights the others win for a few fp16
arrays only. Without it (`coders=[brotli,zstd]`), it is the best that byte coders do.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import Any

import numpy as np

from pgolf.codec.ans_codec import AnsCodec, Spec
from pgolf.codec.arrange import ORDERS, restore
from pgolf.codec.brotli_codec import BrotliCodec
from pgolf.codec.lzma_codec import LzmaCodec
from pgolf.codec.zstd_codec import ZstdCodec
from pgolf.errors import UserError

BYTE_CODERS: dict[str, Any] = {"brotli": BrotliCodec, "lzma": LzmaCodec, "zstd": ZstdCodec}
CODERS = (*BYTE_CODERS, "ans")
PLAN = struct.Struct("<I")  # bytes of the plan
CHOICE = struct.Struct("<BI")  # coder * 4 + order, bytes; none of its own for ans
MAX_PLAN_BYTES = 2**24


class PerGroupCodec:
    """The smallest of several codings, array by array.

    Args:
        coders: those that are tried, of brotli, lzma, zstd and ans; None tries all.
        candidates: so many pairs of byte coder and order, the best on a piece of the array, are
            tried on the whole of it.

    Raises:
        UserError: an unknown coder, or a value outside its range.
    """

    name = "pergroup"

    def __init__(self, *, coders: list[str] | None = None, candidates: int = 1) -> None:
        self.coders = list(CODERS) if coders is None else list(coders)
        if not self.coders or set(self.coders) - set(CODERS):
            raise UserError(
                f"codec.coders={self.coders}: pergroup takes some of {', '.join(CODERS)}"
            )
        if candidates < 1:
            raise UserError(f"codec.candidates={candidates}: pergroup takes 1 or more")
        self.candidates = candidates

    def encode_arrays(self, arrays: list[np.ndarray]) -> tuple[bytes, list[int]]:
        # Not shipped with the weights: reading needs no search.
        from pgolf.codec.pergroup_encoder import encode

        return encode(arrays, self.coders, self.candidates)

    def decode_arrays(self, data: bytes, specs: list[Spec]) -> tuple[list[np.ndarray], list[int]]:
        (size,) = PLAN.unpack_from(data)
        position = PLAN.size + size
        plan = zlib.decompressobj().decompress(data[PLAN.size : position], MAX_PLAN_BYTES)
        choices = list(CHOICE.iter_unpack(plan))
        arrays: list[Any] = []
        for (shape, dtype), (choice, size) in zip(specs, choices, strict=True):
            coder, order = divmod(choice, len(ORDERS))
            if CODERS[coder] == "ans":
                arrays.append(None)
                continue
            num_bytes = math.prod(shape) * np.dtype(dtype).itemsize
            piece = BYTE_CODERS[CODERS[coder]]().decode(data[position : position + size], num_bytes)
            arrays.append(restore(piece, ORDERS[order], shape, np.dtype(dtype)))
            position += size
        sizes = [size for _, size in choices]
        left = [index for index, array in enumerate(arrays) if array is None]
        if left:
            found = AnsCodec().decode_arrays(data[position:], [specs[index] for index in left])
            for index, array, taken in zip(left, *found, strict=True):
                arrays[index], sizes[index] = array, taken
        return arrays, sizes
