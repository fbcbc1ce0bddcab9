"""Which matrices are worth a low-rank correction, at the price of a byte.

Legend: R rows, C columns, K rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from pgolf.distributed import World
from pgolf.quant.codes import IntTensor
from pgolf.quant.engine import weighted_error
from pgolf.quant.entropy import order0_bits
from pgolf.quant.lowrank import low_rank_correction


def worth_correcting(
    weights: Mapping[str, Tensor],
    hessians: Mapping[str, Tensor],
    found: Mapping[str, IntTensor],
    losses: Mapping[str, float],
    price: float,
    rank: int,
    bits: int,
    world: World,
) -> list[str]:
    """Names of matrices whose correction lowers the loss by more than its bytes cost. Collective.

    The loss goes with the error of the outputs, which the correction is fitted to.

    Args:
        weights, hessians: the matrices and X^T X of their inputs; the same on each rank.
        found: their codes, without corrections.
        losses: nats a token that these codes add.
        price: nats a token that a byte is worth.
        rank, bits: of the factors.
    """
    worth = []
    for name in list(found)[world.rank :: world.world_size]:
        weight_RC, value, hessian_CC = weights[name], found[name], hessians[name]
        before = weighted_error(weight_RC, value, hessian_CC)
        if before <= 0:
            continue
        error_RC = weight_RC.float() - value.dequantize().to(weight_RC.device)
        factors = low_rank_correction(error_RC, hessian_CC, rank, bits)
        after = weighted_error(weight_RC, replace(value, correction=factors), hessian_CC)
        gain = losses[name] * (1 - after / before)
        if gain > price * sum(map(_bytes, factors)):
            worth.append(name)
    return sorted(name for part in world.gather_objects(worth) for name in part)


def _bytes(factor: IntTensor) -> float:
    """Of the codes by their entropy, and of the scales."""
    return float(order0_bits(factor.codes)) * factor.codes.numel() / 8 + 2 * len(factor.scales)
