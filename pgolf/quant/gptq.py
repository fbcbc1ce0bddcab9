"""`quant=gptq_sdclip`: GPTQ (arXiv 2210.17323) on the grid of SDClip, as in PR #1738.

Legend: B batch, T time, R rows, C columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pgolf.distributed import World
from pgolf.errors import RunFailed, UserError
from pgolf.quant.codes import Codes
from pgolf.quant.hessian import input_hessians
from pgolf.quant.sdclip import SDClip, quantize_tensors, round_to_codes

SMALLEST_DAMPING = 1e-6


class GPTQQuantizer:
    """Rounds a matrix column by column; later columns make up for the errors of earlier ones.

    Args:
        bits, embed_bits, clip_sigmas, embed_clip_sigmas, min_elements: see `SDClip`.
        block_size: columns after which the errors are passed on to all later ones; changes speed
            alone.
        damping: added to the Hessian's diagonal, as a part of its mean.
        calibration_batches: batches of training text that the Hessians come from.

    Raises:
        UserError: a value outside its range.
    """

    def __init__(
        self,
        *,
        bits: int,
        embed_bits: int,
        clip_sigmas: float,
        embed_clip_sigmas: float,
        min_elements: int,
        block_size: int = 128,
        damping: float = 0.01,
        calibration_batches: int,
    ) -> None:
        self.clip = SDClip(bits, embed_bits, clip_sigmas, embed_clip_sigmas, min_elements)
        if block_size < 1:
            raise UserError(f"quant.block_size={block_size}: expected 1 or more")
        if not damping >= 0:
            raise UserError(f"quant.damping={damping}: expected 0 or more")
        if calibration_batches < 1:
            raise UserError(
                f"quant.calibration_batches={calibration_batches}: GPTQ needs at least 1 "
                "(scale.calibration_batches=...); quant=rtn needs none"
            )
        self.block_size, self.damping = block_size, damping
        self.calibration_batches = calibration_batches

    def calibrate(
        self, model: nn.Module, batches: Iterable[Tensor], world: World
    ) -> dict[str, Tensor]:
        """Hessians by weight name, fp32 [C, C], equal on all ranks.

        Args:
            batches: ids_BT of training text, int64, on the model's device; this rank's share.
        """
        return input_hessians(model, batches, self.calibration_batches, world, self.clip.quantizes)

    def quantize(self, weights: dict[str, Tensor], statistics: dict[str, Tensor]) -> Codes:
        """Codes of all weights.

        A matrix whose input nobody has seen is rounded to nearest, with a warning.

        Raises:
            RunFailed: a weight or a Hessian is not finite.
        """

        def codes_of(name: str, weight_RC: Tensor, scale_R: Tensor) -> Tensor:
            return self._codes(name, weight_RC, scale_R, statistics.get(name))

        return quantize_tensors(weights, self.clip, codes_of)

    def _codes(
        self, name: str, weight_RC: Tensor, scale_R: Tensor, hessian_CC: Tensor | None
    ) -> Tensor:
        bits = self.clip.bits_of(name)
        if hessian_CC is None or not hessian_CC.any():
            warnings.warn(
                f"{name}: calibration has seen no input of it (it looks at inputs of nn.Linear and "
                "at the tied embedding), so it is rounded to nearest",
                stacklevel=2,
            )
            return round_to_codes(weight_RC.float(), scale_R.float()[:, None], bits)
        hessian_CC, order_C, is_dead_C = in_order(hessian_CC.to(weight_RC.device), name)
        factor_CC = inverse_factor(hessian_CC, self.damping, name)
        # Without input a weight has no effect, and codes of 0 cost nothing.
        weight_RC = weight_RC.masked_fill(is_dead_C, 0.0)
        codes_RC = sweep(weight_RC[:, order_C], factor_CC, scale_R, bits, self.block_size)
        return codes_RC[:, order_C.argsort()]


def in_order(hessian_CC: Tensor, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """The Hessian with its columns by descending diagonal, divided by the mean of the diagonal.

    So scaled, neither the size of the inputs nor the number of tokens matters.

    Returns:
        the Hessian (float64 [C, C]), the order (int64 [C]), and which columns had no input at all
        (bool [C], in the original order); these get a 1 on the diagonal.

    Raises:
        RunFailed: the Hessian is not finite.
    """
    hessian_CC = hessian_CC.double()
    if not torch.isfinite(hessian_CC).all():
        raise RunFailed(
            f"{name}: its inputs on the calibration text are NaN or infinite: training has "
            "diverged; lower the learning rates (optim, ttt.lr)"
        )
    is_dead_C = hessian_CC.diagonal() <= 0
    hessian_CC = hessian_CC / hessian_CC.diagonal().mean()
    hessian_CC.diagonal()[is_dead_C] = 1.0
    order_C = hessian_CC.diagonal().argsort(descending=True, stable=True)
    return hessian_CC[order_C][:, order_C], order_C, is_dead_C


def inverse_factor(hessian_CC: Tensor, damping: float, name: str) -> Tensor:
    """The upper triangular U with U^T U = (H + damping I)^-1, float64 [C, C].

    Where that is not positive definite, damping rises tenfold, with a warning naming the matrix.
    """
    identity_CC = torch.eye(len(hessian_CC), dtype=torch.float64, device=hessian_CC.device)
    while True:
        # Factored from its last column backwards: H = V V^T with V upper triangular, U = V^-1.
        damped_CC = (hessian_CC + damping * identity_CC).flip(0, 1)
        lower_CC, failed = torch.linalg.cholesky_ex(damped_CC)
        if not failed:
            return torch.linalg.solve_triangular(lower_CC.flip(0, 1), identity_CC, upper=True)
        damping = max(10.0 * damping, SMALLEST_DAMPING)
        warnings.warn(
            f"{name}: the Hessian is not positive definite, trying damping={damping:g}",
            stacklevel=2,
        )


def sweep(
    weight_RC: Tensor, factor_CC: Tensor, scale_R: Tensor, bits: int, block_size: int
) -> Tensor:
    """GPTQ's pass over the columns, left to right: int8 codes [R, C].

    Errors are passed on at once within a block, and after it to all later columns in one product.

    Args:
        factor_CC: U with U^T U = H^-1, float64.
        scale_R: step of each row's grid.
    """
    scale_R = scale_R.double()
    num_columns = weight_RC.size(1)
    # Columns as contiguous rows: one is read and the rest of its block updated at each step.
    weight_CR = weight_RC.double().T.contiguous()
    codes_CR = torch.empty_like(weight_CR, dtype=torch.int8)
    for first in range(0, num_columns, block_size):
        end = min(first + block_size, num_columns)
        errors = torch.empty_like(weight_CR[first:end])
        for column in range(first, end):
            code_R = round_to_codes(weight_CR[column], scale_R, bits)
            codes_CR[column] = code_R.to(torch.int8)
            error_R = (weight_CR[column] - code_R * scale_R) / factor_CC[column, column]
            errors[column - first] = error_R
            later = slice(column + 1, end)
            weight_CR[later].addr_(factor_CC[column, later], error_R, alpha=-1)
        weight_CR[end:].addmm_(factor_CC[first:end, end:].T, errors, alpha=-1)
    return codes_CR.T
