"""How quickly the loaders give batches from the page cache: million tokens a second, one thread.

python bench/loader.py [--shards N] [--tokens N] [--json] [--save]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import record

from pgolf.clock import Clock
from pgolf.data.loader import GlobalLoader, PublishedLoader
from pgolf.data.shards import read_shard, shard_writer
from pgolf.data.stream import TokenStream

BATCH_TOKENS, SECONDS = 98_304, 2.0  # 48 sequences of 2,048: a micro-batch of the record recipe
LOADERS = {"global": GlobalLoader, "published": PublishedLoader}


def write_shards(folder: Path, num_shards: int, num_tokens: int) -> list[TokenStream]:
    """Shards of random ids, memory-mapped; written just now, so they are in the page cache."""
    random = np.random.default_rng(0)
    streams = []
    for index in range(num_shards):
        path = folder / f"train_{index:06d}.bin"
        with shard_writer(path) as writer:
            writer.append(random.integers(0, 8192, num_tokens).astype(np.uint16))
        streams.append(TokenStream(read_shard(path)))
    return streams


def million_tokens_per_s(kind: str, shards: list[TokenStream], seq_len: int, world: int) -> float:
    """Of one rank."""
    loader = LOADERS[kind](shards, seq_len=seq_len, seed=0)
    num_seqs = BATCH_TOKENS // seq_len * world
    loader.next_batch(num_seqs, 0, world)
    clock, batches = Clock({}), 0
    with clock.phase("read", "bench"):
        while clock.seconds("read") < SECONDS:
            loader.next_batch(num_seqs, 0, world)
            batches += 1
    return batches * BATCH_TOKENS / clock.seconds("read") / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=25_000_000, help="of a shard")
    record.add_options(parser)
    options = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        shards = write_shards(Path(folder), options.shards, options.tokens)
        for kind in LOADERS:
            for seq_len, world in ((256, 1), (2048, 1), (2048, 8)):
                name = f"{kind}, windows of {seq_len}, {world} worker(s), Mtoken/s"
                figures[name] = million_tokens_per_s(kind, shards, seq_len, world)
    record.finish("loader", figures, options)


if __name__ == "__main__":
    main()
