"""What GPTQ needs of a Hessian: an order of the columns and a factor of the inverse.

One Hessian after the other: factored in a batch, the last bits of a result would depend on what
else is in the batch, and thus on the number of ranks.
Legend: C columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pgolf.quant.codes import EXPONENT_STEPS

SMALLEST_DAMPING = 1e-6
LARGEST_EXPONENT = 8 * EXPONENT_STEPS  # factors of columns from 1/256 to 256


@dataclass(frozen=True)
class Conditioned:
    """A Hessian prepared for a sweep over the columns.

    Args:
        factor: the upper triangular U with U^T U = H^-1, float64, in the order of the sweep.
        order: columns in the order of the sweep, int64.
        is_dead: columns without any input, bool, in their own order.
    """

    factor: Tensor
    order: Tensor
    is_dead: Tensor

    @property
    def importance(self) -> Tensor:
        """What a squared error of each column costs once later columns have made up for it."""
        return self.factor.diagonal().square().reciprocal()[self.order.argsort()]

    def column_exponents(self) -> Tensor:
        """Reverse water-filling: int8 [C], the factor of a column is 2^(exponent/8).

        Proportional to the diagonal of U, with the geometric mean 1: then an error of one code
        costs the same in every column. In the columns' own order.
        """
        size_C = self.factor.diagonal()[self.order.argsort()].log2()
        living_C = ~self.is_dead
        mean = (size_C * living_C).sum() / living_C.sum().clamp_min(1)
        exponent_C = (EXPONENT_STEPS * (size_C - mean)).round()
        exponent_C = exponent_C.clamp(-LARGEST_EXPONENT, LARGEST_EXPONENT)
        return exponent_C.masked_fill(self.is_dead, 0.0).to(torch.int8)


def in_order(hessian_CC: Tensor, by_activation: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The Hessian in the order of the sweep, divided by the mean of its diagonal.

    So scaled, neither the size of the inputs nor the number of tokens matters.

    Args:
        by_activation: by descending diagonal; else as the columns stand.

    Returns:
        the Hessian (float64 [C, C]), the order (int64 [C]), and which columns had no input at all
        (bool [C], in the original order); these get a 1 on the diagonal.
    """
    hessian_CC = hessian_CC.double()
    is_dead_C = hessian_CC.diagonal() <= 0
    hessian_CC = hessian_CC / hessian_CC.diagonal().mean()
    hessian_CC.diagonal().masked_fill_(is_dead_C, 1.0)
    if not by_activation:
        order_C = torch.arange(len(hessian_CC), device=hessian_CC.device)
        return hessian_CC, order_C, is_dead_C
    order_C = hessian_CC.diagonal().argsort(descending=True, stable=True)
    return hessian_CC[order_C][:, order_C], order_C, is_dead_C


def condition(
    hessians: Sequence[Tensor], names: Sequence[str], damping: float, by_activation: bool
) -> list[Conditioned]:
    """Each Hessian prepared; those that fail to factor are tried again with more damping.

    Args:
        hessians: [C, C], finite.
        names: of the matrices, for warnings.
        damping: added to the diagonal, as a part of its mean.
    """
    ordered = [in_order(hessian_CC, by_activation) for hessian_CC in hessians]
    tried = [_factor(hessian_CC, damping) for hessian_CC, _, _ in ordered]
    # All are under way before the first answer is waited for.
    failed = torch.stack([failure for _, failure in tried]).tolist() if tried else []
    found = []
    for (hessian_CC, order_C, is_dead_C), (factor_CC, _), failure, name in zip(
        ordered, tried, failed, names, strict=True
    ):
        if failure:
            factor_CC = inverse_factor(hessian_CC, _raised(damping, name), name)
        found.append(Conditioned(factor_CC, order_C, is_dead_C))
    return found


def inverse_factor(hessian_CC: Tensor, damping: float, name: str) -> Tensor:
    """The upper triangular U with U^T U = (H + damping I)^-1, float64 [C, C].

    Where that is not positive definite, damping rises tenfold, with a warning naming the matrix.
    """
    while True:
        factor_CC, failed = _factor(hessian_CC, damping)
        if not failed:
            return factor_CC
        damping = _raised(damping, name)


def _factor(hessian_CC: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """The factor, and a number that is not 0 where there is none."""
    identity_CC = torch.eye(len(hessian_CC), dtype=torch.float64, device=hessian_CC.device)
    # Factored from its last column backwards: H = V V^T with V upper triangular, U = V^-1.
    damped_CC = (hessian_CC + damping * identity_CC).flip(0, 1)
    lower_CC, failed = torch.linalg.cholesky_ex(damped_CC)
    # A failed one may hold zeros on its diagonal, which some solvers refuse.
    lower_CC = torch.where(failed > 0, identity_CC, lower_CC)
    return torch.linalg.solve_triangular(lower_CC.flip(0, 1), identity_CC, upper=True), failed


def _raised(damping: float, name: str) -> float:
    damping = max(10.0 * damping, SMALLEST_DAMPING)
    warnings.warn(
        f"{name}: the Hessian is not positive definite, trying damping={damping:g}", stacklevel=3
    )
    return damping
