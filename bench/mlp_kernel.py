"""What the MLP's activation inside the matrix products saves: every tiling beside the plain forms.

python bench/mlp_kernel.py [--rows N] [--model-dim D] [--hidden F] [--only TEXT] [--json] [--save]

Needs a Hopper GPU. Milliseconds are medians; forward writes a with the sign of h as in training,
inference a as it is, backward reads a and writes dh. "torch.mm" is the product alone, without any
activation, and "separate" has an element-wise kernel behind it. All results are compared with
float64 on some rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import record
import torch
import triton
from torch import Tensor

from pgolf.kernel.fused.mlp import (
    FORWARD,
    activate,
    activation_gradient,
    leaky_square_mlp_fused,
)
from pgolf.kernel.fused.mlp_products import Tiling, gemm_configurations
from pgolf.kernel.mlp import leaky_square_mlp_eager

COLUMNS = ("forward", "inference", "backward")
SAMPLES = 257
TOLERANCE = 7e-3  # 1.5 times the error of the least exact, the separate form's signed a


class Case:
    """The operands of both products, and what comes out in float64 on a sample of rows."""

    def __init__(self, rows: int, model_dim: int, hidden: int) -> None:
        draw = torch.Generator("cuda").manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, device="cuda", generator=draw)

        self.x, self.dout = normal(rows, model_dim).bfloat16(), normal(rows, model_dim).bfloat16()
        self.fc, self.proj = normal(hidden, model_dim) / model_dim**0.5, normal(model_dim, hidden)
        self.proj = self.proj / hidden**0.5
        self.fc16, self.proj16 = self.fc.bfloat16(), self.proj.bfloat16()
        self.a = activate(self.x, self.fc16, True, FORWARD)
        # First and last rows are among them: the borders of tiles.
        self.at = torch.linspace(0, rows - 1, SAMPLES, device="cuda").long()
        h = self.x[self.at].double() @ self.fc16.double().T
        self.exact_a = torch.where(h > 0, h, h / 2).square()
        da = self.dout[self.at].double() @ self.proj16.double()
        self.exact_dh = da * torch.where(h > 0, 2 * h, h / 2)

    def works(self, tiling: Tiling | None) -> tuple[Callable[[], Tensor], ...]:
        """What is measured, in the order of COLUMNS."""
        return (
            lambda: activate(self.x, self.fc16, True, tiling),
            lambda: activate(self.x, self.fc16, False, tiling),
            lambda: activation_gradient(self.dout, self.proj16, self.a, tiling),
        )

    def error(self, column: str, result: Tensor) -> float:
        """The relative distance of a column's result from float64."""
        exact = self.exact_dh if column == "backward" else self.exact_a
        return ((result[self.at].double() - exact).norm() / exact.norm()).item()


def milliseconds(work: Callable[[], Any]) -> float:
    return float(triton.testing.do_bench(work, warmup=50, rep=300, return_mode="median"))


def measure_products(case: Case, only: str, say: Callable[[str], None]) -> dict[str, float]:
    """Milliseconds of each form and column that runs and is right."""
    up, down = (lambda: torch.mm(case.x, case.fc16.t())), (lambda: case.dout @ case.proj16)
    alone = [milliseconds(up), milliseconds(up), milliseconds(down)]
    figures = {f"{c}, torch.mm, ms": t for c, t in zip(COLUMNS, alone, strict=True)}
    say(f"{'':34}" + "".join(f"{column:>11}" for column in COLUMNS))
    say(f"{'torch.mm':34}" + "".join(f"{time:11.3f}" for time in alone))
    forms: dict[str, Tiling | None] = {"separate": None, **gemm_configurations()}
    for name, tiling in forms.items():
        if only not in name and tiling is not None:
            continue
        cells = []
        for column, work in zip(COLUMNS, case.works(tiling), strict=True):
            try:
                error = case.error(column, work())
                time = milliseconds(work)
            except Exception as problem:  # one tiling may ask for more than the GPU has
                cells.append(type(problem).__name__[:10])
                continue
            if error > TOLERANCE:
                cells.append(f"off {error:.0e}")
                continue
            cells.append(f"{time:.3f}")
            figures[f"{column}, {name}, ms"] = time
        say(f"{name:34}" + "".join(f"{cell:>11}" for cell in cells))
    return figures


def measure_whole(case: Case) -> dict[str, float]:
    """Forward and backward of the MLP with its present defaults, beside the eager twin."""
    leaves = [tensor.detach().requires_grad_() for tensor in (case.x, case.fc, case.proj)]

    def train(function: Callable[..., Tensor]) -> None:
        with torch.autocast("cuda", torch.bfloat16):
            out = function(*leaves)
        torch.autograd.grad(out, leaves, case.dout)

    return {
        "MLP forward and backward, eager, ms": milliseconds(lambda: train(leaky_square_mlp_eager)),
        "MLP forward and backward, fused, ms": milliseconds(lambda: train(leaky_square_mlp_fused)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=48 * 2048)
    parser.add_argument("--model-dim", type=int, default=512)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--only", default="", help="measure tilings whose name has this text")
    record.add_options(parser)
    options = parser.parse_args()

    def say(line: str) -> None:
        if not options.json:
            print(line, flush=True)

    say(torch.cuda.get_device_name())
    case = Case(options.rows, options.model_dim, options.hidden)
    figures = measure_products(case, options.only, say)
    whole = measure_whole(case)
    figures.update(whole)
    for name, time in whole.items():
        say(f"{name.removesuffix(', ms')}: {time:.3f} ms")
    for column in COLUMNS:
        rivals = {k: v for k, v in figures.items() if k.startswith(column) and "torch.mm" not in k}
        best = min(rivals, key=rivals.__getitem__)
        say(f"best {best.removesuffix(', ms')}: {rivals[best]:.3f} ms")
        figures[f"{column}, best, ms"] = rivals[best]
    if options.json or options.save:  # the table has said it all
        record.finish("mlp_kernel", figures, options)


if __name__ == "__main__":
    main()
