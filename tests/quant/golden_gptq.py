"""Compare GPTQ with what the published code made of one matrix (gptq.npz)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from pgolf.distributed import World
from pgolf.quant.codes import IntTensor
from pgolf.quant.engine import quantize_weights
from pgolf.quant.gptq import GPTQQuantizer

NAME = "matrix.weight"


def run(folder: Path) -> list[tuple[str, float, float]]:
    """(name, deviation, tolerance) of each comparison; settings come from config.json."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))["gptq"]
    bits = (config["clip_range"] + 1).bit_length()
    with np.load(folder / "gptq.npz") as archive:
        weight, hessian = torch.from_numpy(archive["W"]), torch.from_numpy(archive["H"])
        expected = IntTensor(
            torch.from_numpy(archive["q"]), torch.from_numpy(archive["scale"]), bits
        )
    quantizer = GPTQQuantizer(
        bits=bits,
        embed_bits=bits,
        clip_sigmas=config["clip_sigmas"],
        embed_clip_sigmas=config["clip_sigmas"],
        min_elements=1,
        block_size=config["block_size"],
        damping=config["damping"],
        calibration_batches=1,
    )
    codes = quantize_weights({NAME: weight}, {NAME: hessian}, quantizer.rules, World())
    found = codes.tensors[NAME]
    assert isinstance(found, IntTensor)
    difference = (found.scales.float() - expected.scales.float()).abs() / expected.scales.float()
    return [
        ("gptq: share of differing codes", share(found, expected), 1e-3),
        # One step of fp16 is at most 2^-10 of a number.
        ("gptq: scales", float(difference.max()), 2**-10),
    ]


def share(found: IntTensor, expected: IntTensor) -> float:
    return float((found.codes != expected.codes).float().mean())
