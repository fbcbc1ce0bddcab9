"""Bytes of one set of weights in pgolf's container and as published (torch.save, shuffle, brotli).

python bench/container_size.py [FILE] [--json] [--save]: FILE is a published artifact (int6.ptz);
both sides use brotli 11. What comes back from the container is compared with what went in.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import record
import torch

from pgolf.artifact import read_artifact, write_artifact
from pgolf.census import describe
from pgolf.codec.brotli_codec import BrotliCodec
from pgolf.upstream.weights import read_weights

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data" / "v15_h100.int6.ptz"
MODEL = {
    "_target_": "pgolf.model.recurrent.RecurrentGPT", "vocab_size": 8192, "num_layers": 11,
    "model_dim": 512, "num_heads": 8, "num_kv_heads": 4, "rope_dims": 16, "train_seq_len": 2048,
    "num_loops": 2, "loop_start": 3, "loop_end": 5, "parallel_start": 7, "xsa_last_n": 11,
}  # fmt: skip


def measure(path: Path) -> dict[str, Any]:
    codes = read_weights(path).codes
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        ours = write_artifact(
            Path(folder), MODEL, codes, BrotliCodec(quality=11, lgwin=24), "0" * 64
        ).file_bytes
        write_s = time.perf_counter() - start
        start = time.perf_counter()
        artifact = read_artifact(Path(folder))
        read_s = time.perf_counter() - start
    described = describe(artifact)
    before, after = codes.weights(), artifact.codes.weights()
    published = path.stat().st_size
    return {
        "published_bytes": published,
        "pgolf_bytes": ours,
        "ratio": ours / published,
        "identical": all(torch.equal(before[name], after[name]) for name in before),
        "write_s": write_s,
        "read_s": read_s,
        "header_bytes": described["header_bytes"],
        **{
            f"{stream['name']} bytes, raw -> encoded": [
                stream["raw_bytes"],
                stream["encoded_bytes"],
            ]
            for stream in described["streams"]
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=DEFAULT)
    record.add_options(parser)
    options = parser.parse_args()
    if not options.file.is_file():
        reason = f"no {options.file}: name a published int6.ptz"
        print(json.dumps({"skipped": reason}) if options.json else f"skipped: {reason}")
        return 0
    record.finish("container_size", measure(options.file), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
