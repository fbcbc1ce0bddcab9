"""Every codec on the same real codes: bytes as ratios to brotli 11 and to entropy, and seconds.

python bench/codecs.py [FILE] [--only NAME ...] [--part PREFIX] [--json] [--save]: FILE is a
published int6.ptz or a model.pgolf. What comes back is compared with what went in. For seconds of
one core, start it with `taskset -c 0`.
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
from container_size import DEFAULT, MODEL

from pgolf.artifact import read_artifact, write_artifact
from pgolf.census import entropy_bytes
from pgolf.codec.ans_codec import AnsCodec
from pgolf.codec.brotli_codec import BrotliCodec
from pgolf.codec.lzma_codec import LzmaCodec
from pgolf.codec.pergroup_codec import PerGroupCodec
from pgolf.codec.zstd_codec import ZstdCodec
from pgolf.quant.codes import Codes
from pgolf.shipped import write_code
from pgolf.upstream.weights import read_weights

CODECS: dict[str, Any] = {
    "brotli": BrotliCodec(),
    "lzma": LzmaCodec(),
    "zstd": ZstdCodec(),
    "ans": AnsCodec(),
    "ans, 128 lanes": AnsCodec(lanes=128),
    "ans, 2048 lanes": AnsCodec(lanes=2048),
    "pergroup": PerGroupCodec(),
    "pergroup without ans": PerGroupCodec(coders=["brotli", "zstd"]),
}
CONFIG = {
    "model": {"_target_": "pgolf.model.recurrent.RecurrentGPT"},
    "eval": {"_target_": "pgolf.eval.sliding.SlidingEvaluator"},
    "ttt": {"_target_": "pgolf.ttt.none.NoTTT"},
}


def code_bytes(codec: Any) -> int:
    """Bytes of code.zip with this codec."""
    target = f"{type(codec).__module__}.{type(codec).__qualname__}"
    with tempfile.TemporaryDirectory() as folder:
        return write_code(Path(folder), CONFIG | {"codec": {"_target_": target}})


def measure(codes: Codes, codec: Any) -> dict[str, Any]:
    """An artifact of these codes, written and read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.perf_counter()
        written = write_artifact(folder, MODEL, codes, codec, "0" * 64)
        encode_s = time.perf_counter() - start
        start = time.perf_counter()
        read = read_artifact(folder)
        decode_s = time.perf_counter() - start
    before, after = codes.weights(), read.codes.weights()
    return {
        "file_bytes": written.file_bytes,
        "code_bytes": code_bytes(codec),
        "encode_s": encode_s,
        "decode_s": decode_s,
        "identical": all(torch.equal(before[name], after[name]) for name in before),
    }


def compare(figures: dict[str, dict[str, Any]], entropy: int) -> None:
    """Add ratios to what brotli 11 takes, with code, and to the entropy of the codes alone."""
    for row in figures.values():
        row["over_entropy"] = row["file_bytes"] / entropy
        if "brotli" in figures:
            total = figures["brotli"]["file_bytes"] + figures["brotli"]["code_bytes"]
            row["of_brotli"] = row["file_bytes"] / figures["brotli"]["file_bytes"]
            row["of_brotli_with_code"] = (row["file_bytes"] + row["code_bytes"]) / total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=DEFAULT)
    parser.add_argument("--only", nargs="+", choices=CODECS, default=list(CODECS))
    parser.add_argument("--part", default="", help="tensors whose names begin so")
    record.add_options(parser)
    options = parser.parse_args()
    if not options.file.exists():
        reason = f"no {options.file}: name a published int6.ptz or a model.pgolf"
        print(json.dumps({"skipped": reason}) if options.json else f"skipped: {reason}")
        return 0
    is_published = options.file.suffix == ".ptz"
    codes = read_weights(options.file).codes if is_published else read_artifact(options.file).codes
    codes = Codes({n: v for n, v in codes.tensors.items() if n.startswith(options.part)})
    entropy = sum(entropy_bytes(codes).values())
    figures: dict[str, Any] = {}
    for name in options.only:
        figures[name] = measure(codes, CODECS[name])
        compare(figures, entropy)
        print(f"{name}: {figures[name]['file_bytes']:,} bytes", file=sys.stderr)
    record.finish("codecs", {"entropy_bytes": entropy, **figures}, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
