"""What each way to round is worth: bytes at equal harm, on one trained model.

python bench/rounding.py WEIGHTS --data FOLDER [--batches N] [--only NAME ...] [--json] [--save]

Every arm quantizes the same weights at several steps, with the same share of a matrix's root mean
square for all of them. Harm is the KL divergence from the unquantized model's predictions on
training text, bytes are those of the ans codec. Bytes at the harm of the published grid with GPTQ
are interpolated between the steps.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import quant
import record
import torch

from pgolf.artifact import write_artifact
from pgolf.codec.ans_codec import AnsCodec
from pgolf.quant.codes import Codes
from pgolf.quant.engine import quantize_weights
from pgolf.quant.grids import largest_code
from pgolf.quant.hessian import needed_hessians
from pgolf.quant.rules import Rule
from pgolf.quant.sdclip import EMBEDDING
from pgolf.quant.sensitivity import Divergence, row_importance

PLAIN = Rule(pattern="*.weight", bits=8, grid="uniform", order="natural")
WATER = replace(PLAIN, columns="water")
TRELLIS = replace(WATER, rounding="trellis")
# Name: rule, and whether rows are weighed.
ARMS: dict[str, tuple[Rule, bool]] = {
    "sdclip, gptq": (replace(PLAIN, grid="sdclip", order="activation"), False),
    "one step, nearest": (replace(PLAIN, rounding="nearest"), False),
    "one step, gptq": (PLAIN, False),
    "water, gptq": (WATER, False),
    "water, entropy 0.1": (replace(WATER, rounding="entropy", penalty=0.1), False),
    "sdclip, trellis 8": (replace(TRELLIS, grid="sdclip", columns="none"), False),
    "one step, trellis 8": (replace(TRELLIS, columns="none"), False),
    "water, trellis 4": (replace(TRELLIS, states=4), False),
    "water, trellis 8": (TRELLIS, False),
    "water, trellis 8, 0.1": (replace(TRELLIS, penalty=0.1), False),
    "water, trellis 8, 0.2": (replace(TRELLIS, penalty=0.2), False),
    "water, trellis 32, 0.1": (replace(TRELLIS, states=32, penalty=0.1), False),
    "rows, water, gptq": (WATER, True),
    "rows, water, trellis 8, 0.1": (replace(TRELLIS, penalty=0.1), True),
}
STEPS = (0.3, 0.45, 0.65)  # in root mean squares; V15's is 0.41


def packed_bytes(codes: Codes, threads: int = 1) -> int:
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        model = {"_target_": "pgolf.model.recurrent.RecurrentGPT"}
        return write_artifact(Path(name), model, codes, AnsCodec(), "bench").file_bytes


def rules_of(rule: Rule, step: float, min_elements: int) -> list[Rule]:
    """V15 takes a step of the embedding that is 0.38 of the others'."""
    sized = replace(rule, min_elements=min_elements)
    sigmas = step * largest_code(rule.bits)
    embedding = replace(sized, pattern=EMBEDDING, clip_sigmas=0.38 * sigmas)
    return [embedding, replace(sized, clip_sigmas=sigmas)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="prepared shards")
    parser.add_argument("--batches", type=int, default=64, help="of calibration")
    parser.add_argument("--set", nargs="*", default=[], help="overrides, e.g. scale=full")
    parser.add_argument("--only", nargs="*", choices=list(ARMS), default=list(ARMS))
    record.add_options(parser)
    options = parser.parse_args()
    options.tokens = 2
    bench = quant.Bench(options)
    bench.model.load_state_dict(bench.weights)
    bench.model.recurrence(True)  # type: ignore[operator]
    # Rows that a text has weighed do less harm on it than on others.
    probes, weighing, rest = bench.batches[:1], bench.batches[1:2], bench.batches[2:]
    hessians = needed_hessians(bench.model, iter(rest), len(rest), bench.world, [PLAIN])
    rows = row_importance(bench.model, weighing, hessians, bench.world)
    divergence = Divergence(bench.model, probes, bench.world)
    min_elements = bench.config["scale"]["quant_min_elements"]
    found: dict[str, list[tuple[float, Future[int], float]]] = {}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(16, os.cpu_count() or 1), mp_context=spawn) as pool:
        for name in options.only:
            rule, weighed = ARMS[name]
            found[name] = []
            for step in STEPS:
                start = time.perf_counter()
                codes = quantize_weights(
                    bench.weights, hessians, rules_of(rule, step, min_elements), bench.world,
                    rows if weighed else None,
                )  # fmt: skip
                seconds = time.perf_counter() - start
                bench.model.load_state_dict(codes.weights())
                found[name].append((divergence(), pool.submit(packed_bytes, codes), seconds))
            bench.model.load_state_dict(bench.weights)
            print(name, [f"{x[0]:.6f}" for x in found[name]], file=sys.stderr, flush=True)
        figures = summary({n: [(k, b.result(), s) for k, b, s in v] for n, v in found.items()})
    record.finish("rounding", figures, options)


def summary(found: dict[str, list[tuple[float, int, float]]]) -> dict[str, Any]:
    """Of each arm its points, and its bytes at the middle point of the first one's harm."""
    first = next(iter(found.values()))
    harm, reference = first[1][0], first[1][1]
    figures: dict[str, Any] = {"harm": harm}
    for name, points in found.items():
        kls, sizes, seconds = (np.array(column, float) for column in zip(*points, strict=True))
        size = float(np.interp(np.log(harm), np.log(kls), sizes))
        figures[name] = {
            "kl": kls.tolist(), "bytes": sizes.tolist(), "seconds": float(np.median(seconds)),
            "bytes_at_equal_harm": size / reference,
        }  # fmt: skip
    return figures


if __name__ == "__main__":
    main()
