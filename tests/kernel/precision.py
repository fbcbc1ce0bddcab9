"""Fused kernels against their eager twin and against the twin in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# bf16 has 8 significant bits: rounding a result alone is worth 1/3 of 2^-8 of its norm, inputs of
# the eager chain are rounded after every operation.
TOLERANCE = 1e-2
# How much farther than the twin the fused form may be; it rounds less and is usually nearer.
SLACK = 1.5


def outputs_and_gradients(
    function: Callable[..., Tensor | tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    frozen: Sequence[int],
    dtype: torch.dtype | None,
) -> list[Tensor]:
    """What a function of tensors returns, then a gradient for each input that is not frozen.

    Inputs are cast to `dtype`, or left as they are. Incoming gradients are drawn from a generator
    of their own, so that all forms of a function get the same.
    """
    leaves = [x.detach().clone() if dtype is None else x.detach().to(dtype) for x in inputs]
    for index, leaf in enumerate(leaves):
        leaf.requires_grad_(index not in frozen)
    outputs = function(*leaves)
    outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
    generator = torch.Generator().manual_seed(1)
    grads = [torch.randn(y.shape, generator=generator).bfloat16().to(y) for y in outputs]
    # Frozen inputs may leave an output without a graph.
    pairs = [(y, grad) for y, grad in zip(outputs, grads, strict=True) if y.requires_grad]
    torch.autograd.backward(*zip(*pairs, strict=True))
    return [y.detach() for y in outputs] + [x.grad for x in leaves if x.grad is not None]


def error(found: Tensor, expected: Tensor) -> float:
    """Distance relative to the expected norm."""
    distance = (found.double() - expected.double()).norm()
    return (distance / expected.double().norm().clamp_min(1e-30)).item()


def check(
    fused: Callable[..., Tensor | tuple[Tensor, ...]],
    eager: Callable[..., Tensor | tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    frozen: Sequence[int] = (),
) -> None:
    """Same outputs and gradients, in the same dtypes, and no farther from float64 than the twin."""
    found, twin = (outputs_and_gradients(f, inputs, frozen, None) for f in (fused, eager))
    exact = outputs_and_gradients(eager, inputs, frozen, torch.float64)
    assert len(found) == len(twin) == len(exact)
    for index, (a, b, c) in enumerate(zip(found, twin, exact, strict=True)):
        assert a.dtype == b.dtype and a.shape == b.shape, index
        assert error(a, c) <= TOLERANCE, (index, error(a, c))
        assert error(a, c) <= SLACK * error(b, c) + 1e-7, (index, error(a, c), error(b, c))
        assert error(a, b) <= 2 * TOLERANCE, (index, error(a, b))
