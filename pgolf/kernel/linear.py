"""The products with a model's matrices: several that read the same input become one.

Whoever needs the inputs of the matrices (statistics for quantization) observes them here, whether
a product is written as one, stacked with others, or fused with its neighbours. Whoever adds to
their outputs (low-rank adapters) does it here, too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

Observer = Callable[[Tensor, tuple[Tensor, ...]], None]
Adapter = Callable[[Tensor, Tensor, tuple[Tensor, ...]], Tensor]

_observer: Observer | None = None
_adapter: Adapter | None = None


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
    y = F.linear(x, weights[0] if len(weights) == 1 else torch.cat(weights))
    return adapted(y, x, *weights)


def observe(x: Tensor, *weights: Tensor) -> None:
    """Tell the observer, if there is one, that these parameters are about to multiply x."""
    if _observer is not None:
        _observer(x, weights)


def is_observed() -> bool:
    """Whether somebody wants to see inputs, also those that a fused kernel would keep to itself."""
    return _observer is not None


def adapted(y: Tensor, x: Tensor, *weights: Tensor) -> Tensor:
    """What the adapter, if there is one, makes of y, the output of these parameters for x.

    A part of a model that is adapted as a whole, such as an MLP, names all its parameters in order.
    """
    return y if _adapter is None else _adapter(y, x, weights)


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Inside, `observer(x, weights)` sees the input of every product with a parameter."""
    global _observer
    before, _observer = _observer, observer
    try:
        with eager():
            yield
    finally:
        _observer = before


@contextmanager
def adapted_by(adapter: Adapter) -> Iterator[None]:
    """Inside, `adapter(y, x, weights)` takes the place of y, each output of these parameters."""
    global _adapter
    before, _adapter = _adapter, adapter
    try:
        with eager():
            yield
    finally:
        _adapter = before


def eager() -> AbstractContextManager[object]:
    """A compiled graph has no place for an observer or an adapter."""
    # Naming the compiler imports it, for seconds.
    compiled = "torch._dynamo" in sys.modules
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()
