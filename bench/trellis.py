"""Trellis codes beside uniform rounding and GPTQ: error at equal entropy, in dB, and bits saved.

python bench/trellis.py [--states 4 8 ...] [--rows 512] [--columns 512] [--device cuda] [--json]
[--save]: Gaussian rows without a Hessian, then with one whose inputs share directions and whose
columns differ in size. The scalar side is uniform rounding or GPTQ (columns by descending diagonal,
as `quant=gptq_sdclip` does), at the step where its codes have the same order-0 entropy, with
whatever penalty serves it best. Both sides see the same weights in the same run. Where columns
differ, part of the gain is that light columns give way to heavy ones; scales of columns would give
that to a scalar side too, and to a coder that knows of columns.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import record
import torch
from torch import Tensor

from pgolf.quant.trellis import trellis_sweep
from pgolf.quant.trellis_decode import TAPS, reconstruct

BITS = 7
PENALTIES = (0.0, 0.05, 0.1, 0.15)
STEPS = {"3.3 bits": 0.42, "2 bits": 1.05}
DB_PER_BIT = 20 * math.log10(2)


def entropy(codes: Tensor) -> float:
    """Bits a code, order 0."""
    counts = torch.unique(codes, return_counts=True)[1].double()
    share = counts / counts.sum()
    return float(-(share * share.log2()).sum())


def hessian(columns: int, spread: float, generator: torch.Generator) -> Tensor:
    """X^T X of Gaussian inputs, eigenvalues falling as 1/i; spread: of log sizes of columns."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    basis = torch.linalg.qr(normal(columns, columns)).Q
    size = torch.arange(1, columns + 1, dtype=torch.float64).rsqrt()
    x = normal(4 * columns, columns) * size @ basis.T * (spread * normal(columns)).exp()
    return x.T @ x / (x * x).sum(0).mean()


def factor_of(hessian_CC: Tensor) -> Tensor:
    """U with U^T U = (H + 1%)^-1."""
    identity = torch.eye(len(hessian_CC), dtype=torch.float64, device=hessian_CC.device)
    return torch.linalg.cholesky(torch.linalg.inv(hessian_CC + 0.01 * identity), upper=True)


def error_of(missing_RC: Tensor, hessian_CC: Tensor) -> float:
    """tr(E H E^T) for each weight."""
    return float((missing_RC @ hessian_CC * missing_RC).sum()) / missing_RC.numel()


def scalar(
    weight_RC: Tensor, hessian_CC: Tensor, step: float, penalty: float
) -> tuple[float, float]:
    """Bits and error of GPTQ (without correlations: of rounding) that shrinks as a penalty asks."""
    order_C = hessian_CC.diagonal().argsort(descending=True, stable=True)
    sorted_CC = hessian_CC[order_C][:, order_C]
    factor_CC = factor_of(sorted_CC)
    left_RC = weight_RC[:, order_C] / step
    shrink = 1 + penalty / (2 * math.log(2) * float(left_RC.square().mean()))
    before_RC, codes_RC = left_RC.clone(), torch.empty_like(left_RC)
    for column in range(left_RC.size(1)):
        codes_RC[:, column] = (left_RC[:, column] / shrink).round()
        error_R = (left_RC[:, column] - codes_RC[:, column]) / factor_CC[column, column]
        left_RC[:, column:].addr_(error_R, factor_CC[column, column:], alpha=-1)
    return entropy(codes_RC), step * step * error_of(before_RC - codes_RC, sorted_CC)


def at_rate(measure: Callable[[float], tuple[float, float]], rate: float, guess: float) -> float:
    """The error where the entropy is a rate: three steps, then a line through the nearest two."""
    points = sorted(measure(guess * factor) for factor in (0.94, 1.0, 1.06))
    pair = points[:2] if rate < points[1][0] else points[1:]
    (bits0, error0), (bits1, error1) = pair
    slope = (math.log(error1) - math.log(error0)) / (bits1 - bits0)
    return math.exp(math.log(error0) + slope * (rate - bits0))


def compare(
    weight_RC: Tensor, hessian_CC: Tensor, step: float, states: list[int]
) -> dict[str, Any]:
    """dB and bits by number of states, each against the best scalar at its entropy."""
    factor_CC = factor_of(hessian_CC)
    step_1R = torch.full((1, len(weight_RC)), step, dtype=torch.float64, device=weight_RC.device)
    found: dict[str, Any] = {}
    for count in states:
        start = time.perf_counter()
        codes_RC = trellis_sweep(weight_RC[None], factor_CC[None], step_1R, BITS, count, 0.1)[0]
        rate = entropy(codes_RC)  # waits for the device
        seconds = time.perf_counter() - start
        error = error_of(weight_RC - step * reconstruct(codes_RC, count), hessian_CC)
        plain = min(
            at_rate(lambda s, p=p: scalar(weight_RC, hessian_CC, s, p), rate, step)  # type: ignore[misc]
            for p in PENALTIES
        )
        gain = 10 * math.log10(plain / error)
        found[f"{count} states"] = {
            "bits": rate,
            "dB": gain,
            "bits saved at equal error": gain / DB_PER_BIT,
            "share of bits": gain / DB_PER_BIT / (rate + gain / DB_PER_BIT),
            "error, ratio": error / plain,
            "encode_s": seconds,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--states", type=int, nargs="+", choices=sorted(TAPS), default=[4, 8, 32])
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--columns", type=int, default=384)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    record.add_options(parser)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    shape = options.rows, options.columns
    weight_RC = torch.randn(shape, generator=generator, dtype=torch.float64).to(options.device)
    hessians = {
        "Gaussian": torch.eye(options.columns, dtype=torch.float64),
        "correlated": hessian(options.columns, 0.0, generator),
        "correlated, columns differ": hessian(options.columns, 0.7, generator),
    }
    figures = {
        f"{name}, {rate}": compare(weight_RC, found.to(options.device), step, options.states)
        for name, found in hessians.items()
        for rate, step in STEPS.items()
    }
    record.finish("trellis", {"device": options.device, **figures}, options)


if __name__ == "__main__":
    main()
