"""Quantizers and codecs on one trained model: bytes, and what they cost in bits per byte.

python bench/quant.py WEIGHTS --data FOLDER [--arm 'NAME: OVERRIDES' ...] [--set OVERRIDE ...]
                      [--batches N] [--tokens N] [--as NAME] [--json] [--save]

WEIGHTS are a run's safetensors (in its cache, train/KEY/ema.safetensors), FOLDER has prepared
shards. Every arm quantizes the same weights with the same calibration text, is packed as a run
would pack it, code included, read back, and scores validation. BPB is a standard evaluation, since
only differences matter here.

BPB over unquantized can mislead: weights that know their training text by heart predict other text
better when anything disturbs them, and that gain is part of it. `kl_nats`, the mean divergence from
the unquantized model's predictions on the first windows of validation, has no such part.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import record
import torch
from hydra.utils import instantiate
from safetensors.torch import load_file
from torch import Tensor, nn

from pgolf.artifact import read_artifact, write_artifact
from pgolf.config import compose
from pgolf.data.loader import GlobalLoader
from pgolf.data.stream import TokenStream
from pgolf.distributed import World
from pgolf.eval.standard import StandardEvaluator
from pgolf.kernel.attention import set_backend
from pgolf.kernel.choice import set_kernels
from pgolf.quant.codes import Codes, IntTensor
from pgolf.quant.sensitivity import Divergence
from pgolf.shipped import write_code

KL_TOKENS = 65_536
ARMS = (
    "V15, brotli: quant=gptq_sdclip codec=brotli",
    "V15, ans: quant=gptq_sdclip codec=ans",
    "nearest, ans: quant=rtn codec=ans",
    "lqer, ans: quant=lqer codec=ans",
    "water-filled columns, ans: quant=custom codec=ans",
    "mixed search, gptq, ans: quant=mixed_search quant.rounding=gptq codec=ans",
    "mixed search, ans: quant=mixed_search codec=ans",
)


class Bench:
    """The trained model, its text, and what all arms share."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.world = World(device=device, precision="bf16" if device.type == "cuda" else "fp32")
        if device.type == "cuda":
            torch.set_float32_matmul_precision("high")
        set_backend("auto", device)
        set_kernels("auto", device, self.world.precision)
        self.config = compose(list(options.set))
        self.model: nn.Module = instantiate(self.config["model"], _convert_="all").to(device)
        self.weights = load_file(options.weights, device=str(device))
        self.batches = self.calibration()
        scale = self.config["scale"]
        self.evaluator = StandardEvaluator(
            seq_len=scale["eval_seq_len"], batch_seqs=scale["eval_batch_seqs"]
        )
        stream = TokenStream.open_validation(options.data)
        self.validation = TokenStream(
            stream.ids[: options.tokens], stream.raw_bytes[: options.tokens]
        )

    def calibration(self) -> list[Tensor]:
        train = self.config["train"]
        shards = TokenStream.open_training(self.options.data)
        loader = GlobalLoader(shards, seq_len=train["seq_len"], seed=0)
        batches = [
            loader.next_batch(train["micro_batch_seqs"], 0, 1) for _ in range(self.options.batches)
        ]
        return [torch.from_numpy(b[:, :-1].astype("int64")).to(self.world.device) for b in batches]

    def score(self, weights: dict[str, Tensor]) -> float:
        """BPB with these weights."""
        self.model.load_state_dict(weights)
        self.model.recurrence(True)  # type: ignore[operator]
        return self.evaluator.evaluate(self.model, self.validation, self.world).bpb

    def unquantized(self) -> float:
        """Its BPB; from here on arms are compared with its predictions."""
        bpb = self.score(self.weights)
        seq_len = self.evaluator.seq_len
        num_seqs = max(1, min(KL_TOKENS, self.validation.num_tokens) // seq_len)
        ids = torch.from_numpy(self.validation.ids[: num_seqs * seq_len].astype("int64"))
        ids_NT = ids.view(num_seqs, seq_len).to(self.world.device)
        self.divergence = Divergence(self.model, [ids_NT], self.world)
        return bpb

    def arm(self, overrides: list[str]) -> dict[str, Any]:
        shared = [f"scale.calibration_batches={self.options.batches}"]
        config = compose([*self.options.set, *overrides, *shared])
        codec = instantiate(config["codec"], _convert_="all")
        with tempfile.TemporaryDirectory() as name:

            def size_of(codes: Codes) -> int:
                artifact = write_artifact(Path(name), config["model"], codes, codec, "bench")
                return artifact.file_bytes + write_code(Path(name), config)

            self.score(self.weights)
            quantizer = instantiate(config["quant"], _convert_="all")
            self.world.synchronize()
            start = time.perf_counter()
            codes = quantizer.quantize(self.model, iter(self.batches), self.world, size_of)
            self.world.synchronize()
            seconds = time.perf_counter() - start
            size = size_of(codes)
            read = read_artifact(Path(name)).codes
        bpb = self.score(read.weights())
        widths = [t.bits for t in read.tensors.values() if isinstance(t, IntTensor)]
        return {
            "bytes": size,
            "bpb": bpb,
            "kl_nats": self.divergence(),
            "seconds": seconds,
            "bits": [min(widths), max(widths)],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="prepared shards")
    parser.add_argument("--arm", action="append", default=[], help="NAME: OVERRIDES")
    parser.add_argument("--set", nargs="*", default=[], help="overrides of all arms")
    parser.add_argument("--batches", type=int, default=64, help="of calibration")
    parser.add_argument("--tokens", type=int, help="of validation that are scored; all if absent")
    parser.add_argument("--as", dest="name", default="quant", help="bench/results/NAME.json")
    record.add_options(parser)
    options = parser.parse_args()
    bench = Bench(options)
    unquantized = bench.unquantized()
    print(f"unquantized: {unquantized:.5f} BPB", file=sys.stderr, flush=True)
    figures: dict[str, Any] = {"unquantized_bpb": unquantized}
    for arm in options.arm or ARMS:
        name, overrides = arm.split(": ", 1)
        figures[name] = found = bench.arm(overrides.split())
        found["bpb_over_unquantized"] = found["bpb"] - unquantized
        first = next(value for value in figures.values() if isinstance(value, dict))
        found["bytes_of_first"] = found["bytes"] / first["bytes"]
        print(f"{name}: {found}", file=sys.stderr, flush=True)
        if options.save:
            record.save(options.name, figures)
    record.finish(options.name, figures, options)


if __name__ == "__main__":
    main()
