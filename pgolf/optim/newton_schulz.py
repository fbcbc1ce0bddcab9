"""Newton-Schulz: the singular values of many matrices driven to about 1 by odd polynomials.

Legend: N matrices of a shape, R rows, C columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

# (a, b, c) of p(x) = a*x + b*x^3 + c*x^5, which acts on each singular value.
Coefficients = Sequence[tuple[float, float, float]]
Schedule = Literal["quintic", "polar_express"]

EPSILON = 1e-7
# Steep at 0, ends in [0.7, 1.2]: the same at every step. Keller Jordan,
# https://kellerjordan.github.io/posts/muon.
QUINTIC = (3.4445, -4.7750, 2.0315)
# Polar Express (Amsel et al., arXiv 2505.16932, algorithm 1): at each step the polynomial that
# brings all singular values in the interval reached so far nearest to 1, from [1e-3, 1] on, the
# lower end at least 0.02407327424182761 of the upper one. All later steps equal the limit.
OPTIMAL_QUINTICS = (
    (8.287212018145624, -23.59588651909883, 17.300387312530926),
    (4.1070591115422, -2.94784991673791, 0.5448431082926602),
    (3.9486908534822938, -2.9089021159629462, 0.551819139437013),
    (3.318419657370601, -2.488488024314875, 0.5100489401237203),
    (2.300652019954818, -1.6689039845747498, 0.418807311952567),
    (1.8913014077874, -1.2679958271945908, 0.3768040894852501),
    (1.8750014808276023, -1.250001645348169, 0.375000164521491),
)
LIMIT = (1.875, -1.25, 0.375)
# Rounding in bf16 takes singular values above the interval, where the polynomials grow.
SAFETY = 1.01


def coefficient_schedule(kind: Schedule, num_steps: int) -> Coefficients:
    """(a, b, c) of each of `num_steps` steps."""
    if kind == "quintic":
        return [QUINTIC] * num_steps
    optimal = [(a / SAFETY, b / SAFETY**3, c / SAFETY**5) for a, b, c in OPTIMAL_QUINTICS]
    return (optimal + [LIMIT] * num_steps)[:num_steps]


def newton_schulz(matrices_NRC: Tensor, coefficients: Coefficients, dtype: torch.dtype) -> Tensor:
    """Replace the singular values of each matrix by about 1; contiguous, of the same shape.

    Args:
        matrices_NRC: any number of matrices of one shape; a zero matrix stays zero.
        coefficients: (a, b, c) of each step.
        dtype: dtype of the products and of the result, bf16 in the recipe.
    """
    X = matrices_NRC.to(dtype)
    # Spectral norm at most 1, which the iteration needs.
    X = X / (X.norm(dim=(-2, -1), keepdim=True) + EPSILON)
    tall = X.size(-2) > X.size(-1)
    for a, b, c in coefficients:
        # The smaller Gram matrix; the sums happen inside the products, before rounding.
        gram = X.mT @ X if tall else X @ X.mT
        even = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        X = torch.baddbmm(X, X, even, beta=a) if tall else torch.baddbmm(X, even, X, beta=a)
    return X


def newton_schulz_dtype(choice: str, device: torch.device) -> torch.dtype:
    """Settle "auto": bf16 as published, but fp32 on the CPU, so that every CPU gives one result."""
    if choice == "auto":
        choice = "fp32" if device.type == "cpu" else "bf16"
    return torch.float32 if choice == "fp32" else torch.bfloat16
