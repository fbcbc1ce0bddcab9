"""Matrices to quantize and Hessians of inputs that share directions, as those of a network do."""

from __future__ import annotations

import torch
from torch import Tensor


def hessian(columns: int, seed: int, *, decay: float = 1.0, spread: float = 0.0) -> Tensor:
    """X^T X of Gaussian inputs, float64 [C, C], mean diagonal 1.

    Args:
        decay: the i-th eigenvalue of the inputs' covariance goes with i^-decay.
        spread: standard deviation of the logarithm of the columns' sizes.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    basis = torch.linalg.qr(normal(columns, columns)).Q
    size = torch.arange(1, columns + 1, dtype=torch.float64) ** (-decay / 2)
    x = normal(4 * columns, columns) * size @ basis.T * (spread * normal(columns)).exp()
    found = x.T @ x
    return found / found.diagonal().mean()


def inverse_factor(hessian_CC: Tensor, damping: float = 0.01) -> Tensor:
    """U, upper triangular, with U^T U = (H + damping I)^-1, by its definition."""
    damped = hessian_CC + damping * torch.eye(len(hessian_CC), dtype=torch.float64)
    return torch.linalg.cholesky(torch.linalg.inv(damped), upper=True)


def output_error(error: Tensor, hessian_CC: Tensor) -> float:
    """tr(E H E^T)."""
    return float((error.double() @ hessian_CC * error.double()).sum())


def entropy(codes: Tensor) -> float:
    """Bits a code, order 0."""
    counts = torch.unique(codes, return_counts=True)[1].double()
    share = counts / counts.sum()
    return float(-(share * share.log2()).sum())


def gptq(weight_RC: Tensor, factor_CC: Tensor, scale: float, limit: int = 63) -> Tensor:
    """Plain GPTQ with one step for all rows: codes, float64."""
    left, codes = weight_RC.double().clone(), torch.empty_like(weight_RC, dtype=torch.float64)
    for column in range(left.size(1)):
        codes[:, column] = (left[:, column] / scale).round().clamp(-limit, limit)
        error = (left[:, column] - scale * codes[:, column]) / factor_CC[column, column]
        left[:, column:] -= error[:, None] * factor_CC[column, column:]
    return codes
