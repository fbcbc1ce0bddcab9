"""Documents by a hash of their token ids: what a tokenizer makes equal is the same document.

Tokenizers that normalise give texts that differ only in white space the same tokens. Then one of
them in validation and the other in training would be a leak that comparing texts does not see.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pgolf.data.seen import Seen
from pgolf.data.shards import read_shard

BLOCK_TOKENS = 1 << 22


def key_of_ids(ids: np.ndarray) -> bytes:
    """Equal for equal ids: 16 bytes.

    Args:
        ids: of one document without BOS, uint16 [n].
    """
    return hashlib.blake2b(ids.tobytes(), digest_size=16).digest()


def keys_of_shards(paths: Iterable[Path], bos_id: int) -> Seen:
    """Keys of all documents of a split, which begin with BOS and may go on in the next shard.

    Raises:
        UserError: a shard cannot be read.
    """
    seen = Seen()
    document = None
    for path in paths:
        ids = read_shard(path)
        for start in range(0, len(ids), BLOCK_TOKENS):
            block = ids[start : start + BLOCK_TOKENS]
            first, *others = np.split(block, np.flatnonzero(block == bos_id))
            if document is not None:
                document.update(first.tobytes())
            for piece in others:
                if document is not None:
                    seen.add(document.digest())
                document = hashlib.blake2b(piece[1:].tobytes(), digest_size=16)
    if document is not None:
        seen.add(document.digest())
    return seen
