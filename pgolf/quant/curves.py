"""How many bytes the codes of each matrix take, over steps of its grid.

Legend: R rows, C columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pgolf.distributed import World
from pgolf.quant.engine import plan
from pgolf.quant.entropy import order0_bits
from pgolf.quant.grids import largest_code
from pgolf.quant.matrices import Prepared, prepare
from pgolf.quant.rules import Rule

# Steps in root mean squares: an eighth of an octave apart, from the finest that 8 bits hold for
# all but one weight in thousands of millions to one that leaves little but zeros.
STEPS = 2.0 ** (np.arange(-32, 17) / 8)


def byte_curves(
    weights: dict[str, Tensor],
    hessians: dict[str, Tensor],
    rows: Mapping[str, Tensor],
    rules: Mapping[str, Rule],
    world: World,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(steps, bytes) of each matrix: the entropy of codes rounded to nearest, and scales.

    Feedback, trellis and codec change it by about the same part everywhere, which the first
    artifact of a search shows. The same on all ranks. Collective.

    Args:
        rules: of the grid `uniform`, by weight name.
    """
    jobs = plan(weights, hessians, list(rules.values()), world, rows)
    found = {item.job.name: (STEPS, _bytes(item)) for item in prepare(jobs)}
    return world.gather_objects(found)[0]


def _bytes(item: Prepared) -> np.ndarray:
    """Bytes at each of the steps."""
    rule = item.job.rule
    relative = rule.clip_sigmas / largest_code(rule.bits)
    unit_RC = item.target.float() * (relative / item.scales.float())[:, None]
    fixed = 2 * len(unit_RC) + (unit_RC.size(1) / 2 if item.exponents is not None else 0)
    bits = torch.stack([_bits(unit_RC / step) for step in STEPS])
    return bits.cpu().numpy() * (unit_RC.numel() / 8) + fixed


def _bits(unit_RC: Tensor) -> Tensor:
    """Bits a code: by one histogram, or by a Gaussian for each column, whichever is less."""
    code_RC = unit_RC.round().clamp(-127, 127)
    # With noise in [-1/2, 1/2] a code has a density, of the same entropy and 1/12 more variance; of
    # all densities a Gaussian has the most bits, half the logarithm of 2 pi e variance.
    variance_C = code_RC.var(dim=0, correction=0).double()
    by_column = 0.5 * torch.log2(2 * math.pi * math.e * (variance_C + 1 / 12)).mean()
    return torch.minimum(order0_bits(code_RC), by_column)
