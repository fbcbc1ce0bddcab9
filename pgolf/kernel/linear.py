"""The products with a model's matrices: several that read the same input become one.

Whoever needs the inputs of the matrices (statistics for quantization) observes them here, whether
a product is written as one, stacked with others, or fused with its neighbours.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

Observer = Callable[[Tensor, tuple[Tensor, ...]], None]

_observer: Observer | None = None


def linear(x: Tensor, *weights: Tensor) -> Tensor:
    """x times each weight, transposed, the results one behind the other.

    One product instead of three for queries, keys and values reads x once, and its gradient needs
    no sum of three tensors.

    Args:
        x: [..., C].
        weights: [R_i, C] each; under autocast the product is computed in its dtype.

    Returns:
        [..., sum of R_i].
    """
    observe(x, *weights)
    return F.linear(x, weights[0] if len(weights) == 1 else torch.cat(weights))


def observe(x: Tensor, *weights: Tensor) -> None:
    """Tell the observer, if there is one, that these parameters are about to multiply x."""
    if _observer is not None:
        _observer(x, weights)


def is_observed() -> bool:
    """Whether somebody wants to see inputs, also those that a fused kernel would keep to itself."""
    return _observer is not None


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Inside, `observer(x, weights)` sees the input of every product with a parameter."""
    global _observer
    before, _observer = _observer, observer
    # A compiled graph has no place for an observer. (Naming the compiler imports it, for seconds.)
    compiled = "torch._dynamo" in sys.modules
    try:
        with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
            yield
    finally:
        _observer = before
