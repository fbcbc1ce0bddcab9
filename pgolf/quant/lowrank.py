"""A product of two thin matrices that makes up for what rounding has lost: LQER, arXiv 2402.02446.

With a Hessian the error is weighted before it is cut to its largest directions: what becomes
smallest is the error of the outputs on calibration text. The factors are small integers themselves;
each is fitted again to what rounding has made of the other.
Legend: R rows, C columns, K rank, N candidates for a scale.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pgolf.quant.codes import FP16_MAX, SMALLEST_FP16, IntTensor

DAMPING = 0.01  # of the Hessian's mean diagonal, as in GPTQ
CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)  # candidates for the end of a row's grid, of its largest
ROUNDS = 3


def low_rank_correction(
    error_RC: Tensor, hessian_CC: Tensor | None, rank: int, bits: int
) -> tuple[IntTensor, IntTensor]:
    """Factors [R, K] and [K, C], on the CPU, whose product is about the error.

    What is left of it, tr(E H E^T), is never more than without them: factors that do not help are
    all 0.

    Args:
        error_RC: weights less quantized weights.
        hessian_CC: X^T X of the inputs; None weights all columns alike.
        rank: 1 or more; beyond the shorter side of the matrix it is cut.
        bits: 2 to 8, of the factors' codes.
    """
    error_RC = error_RC.double()
    rows, columns = error_RC.shape
    rank = min(rank, rows, columns)
    hessian_CC = _of_unit_mean(hessian_CC, error_RC)
    identity_CC = torch.eye(columns, dtype=torch.float64, device=error_RC.device)
    damped_CC = hessian_CC + DAMPING * identity_CC
    best = _zeros(rows, rank, bits), _zeros(rank, columns, bits)
    least = _weighted(error_RC, hessian_CC).sum()
    right_KC = _largest_directions(error_RC, damped_CC, rank)
    for _ in range(ROUNDS):
        right = _rounded(right_KC, damped_CC, bits)
        right_KC = right.dequantize().double()
        gram_KK = right_KC @ damped_CC @ right_KC.T
        inverse_KK = torch.linalg.pinv(gram_KK, hermitian=True)
        left = _rounded(error_RC @ damped_CC @ right_KC.T @ inverse_KK, gram_KK, bits)
        left_RK = left.dequantize().double()
        rest = _weighted(error_RC - left_RK @ right_KC, hessian_CC).sum()
        if rest < least:
            best, least = (left, right), rest
        right_KC = torch.linalg.pinv(left_RK) @ error_RC
    return _on_cpu(best[0]), _on_cpu(best[1])


def _of_unit_mean(hessian_CC: Tensor | None, error_RC: Tensor) -> Tensor:
    """The Hessian over the mean of its diagonal, float64; the identity where there is none."""
    if hessian_CC is None or not hessian_CC.any():
        return torch.eye(error_RC.size(1), dtype=torch.float64, device=error_RC.device)
    return hessian_CC.to(error_RC) / hessian_CC.diagonal().double().mean().to(error_RC.device)


def _weighted(error_RC: Tensor, hessian_CC: Tensor) -> Tensor:
    """The diagonal of E H E^T, of one matrix or several."""
    return (error_RC @ hessian_CC * error_RC).sum(dim=-1)


def _largest_directions(error_RC: Tensor, hessian_CC: Tensor, rank: int) -> Tensor:
    """The right factor [K, C] of the best product, whose left factor has columns of length 1.

    So all columns of the left one are alike, which suits a scale by row, and a row of the right
    one, with a scale of its own, has the size of its direction.
    """
    # H = L L^T, and E - A B is smallest in H where E L - A (B L) is smallest.
    lower_CC = torch.linalg.cholesky(hessian_CC)
    _, size_K, right_KC = torch.linalg.svd(error_RC @ lower_CC, full_matrices=False)
    scaled_KC = size_K[:rank, None] * right_KC[:rank]
    return torch.linalg.solve_triangular(lower_CC, scaled_KC, upper=False, left=False)


def _rounded(values_RC: Tensor, hessian_CC: Tensor, bits: int) -> IntTensor:
    """Nearest codes on the grid, of a few that clip, with the least error of the row in H."""
    limit = 2 ** (bits - 1) - 1
    clips_N11 = torch.tensor(CLIPS, dtype=torch.float64, device=values_RC.device)[:, None, None]
    end_NR1 = clips_N11 * values_RC.abs().amax(dim=1, keepdim=True)
    scale_NR1 = (end_NR1 / limit).clamp(SMALLEST_FP16, FP16_MAX).half().double()
    codes_NRC = (values_RC / scale_NR1).round().clamp(-limit, limit)
    best_R = _weighted(values_RC - codes_NRC * scale_NR1, hessian_CC).argmin(dim=0)
    rows_R = torch.arange(len(best_R), device=best_R.device)
    codes_RC = codes_NRC[best_R, rows_R].to(torch.int8)
    return IntTensor(codes_RC, scale_NR1[best_R, rows_R, 0].half(), bits)


def _zeros(rows: int, columns: int, bits: int) -> IntTensor:
    codes = torch.zeros(rows, columns, dtype=torch.int8)
    return IntTensor(codes, torch.ones(rows, dtype=torch.float16), bits)


def _on_cpu(value: IntTensor) -> IntTensor:
    return IntTensor(value.codes.cpu(), value.scales.cpu(), value.bits)
