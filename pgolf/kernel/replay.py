"""A forward and backward pass as one CUDA graph: a thousand kernels for the price of one launch.

Python needs 50 to 90 ms to launch the kernels of a pass of the full model, which is as long as the
GPU needs for 48 sequences and twice as long as it needs for 16. Legend: B batch, T time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from pgolf.kernel.choice import use_fused_kernels

# Passes of a kind before it is captured: they compile kernels and choose algorithms.
EAGER_PASSES = 2
Kind = tuple[tuple[int, ...], float, bool]


class ForwardBackward:
    """`loss.backward()` of a model, replayed where kernels are fused and a kind of pass repeats.

    A kind is a shape, a scale of the loss, and whether the recurrence is on. Gradients are added to
    the parameters' `.grad`, which may be set to None in between, as usual.

    Args:
        model: called as `model(ids_BT, targets_BT, borders)`; what requires a gradient stays so.
        autocast: makes the context of the forward pass.
    """

    def __init__(
        self, model: nn.Module, autocast: Callable[[], AbstractContextManager[object]]
    ) -> None:
        self.model, self.autocast = model, autocast
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self._passes: dict[Kind, int] = {}
        self._captured: dict[Kind, _Captured] = {}
        self._gradients: list[Tensor] = []

    def __call__(
        self, ids_BT: Tensor, targets_BT: Tensor, borders: Tensor | None = None, scale: float = 1.0
    ) -> Tensor:
        """Add the gradients of scale * loss; returns the loss, detached.

        The result may be overwritten by the next call.
        """
        if borders is not None or not ids_BT.is_cuda or not use_fused_kernels():
            return self._run(ids_BT, targets_BT, borders, scale)
        kind = (tuple(ids_BT.shape), scale, bool(getattr(self.model, "recurrence_is_on", False)))
        self._passes[kind] = self._passes.get(kind, 0) + 1
        if self._passes[kind] <= EAGER_PASSES:
            return self._run(ids_BT, targets_BT, None, scale)
        self._attach_gradients()
        if kind not in self._captured:
            self._captured[kind] = self._capture(ids_BT, targets_BT, scale)
        return self._captured[kind].replay(ids_BT, targets_BT)

    def _run(
        self, ids_BT: Tensor, targets_BT: Tensor, borders: Tensor | None, scale: float
    ) -> Tensor:
        with self.autocast():
            loss: Tensor = self.model(ids_BT, targets_BT, borders)
        (loss * scale).backward()
        return loss.detach()

    def _attach_gradients(self) -> None:
        """Graphs write to fixed places: those become the parameters' gradients again."""
        if not self._gradients:
            self._gradients = [torch.zeros_like(p) for p in self.trained]
        fresh = []
        for parameter, gradient in zip(self.trained, self._gradients, strict=True):
            if parameter.grad is None:
                fresh.append(gradient)
            elif parameter.grad is not gradient:
                gradient.copy_(parameter.grad)
            parameter.grad = gradient
        if fresh:
            torch._foreach_zero_(fresh)

    def _capture(self, ids_BT: Tensor, targets_BT: Tensor, scale: float) -> _Captured:
        ids_BT, targets_BT = ids_BT.clone(), targets_BT.clone()
        graph = torch.cuda.CUDAGraph()
        # They never run at the same time, so that all may keep their activations in one place.
        pools = [captured.graph.pool() for captured in self._captured.values()]
        # "thread_local": the thread that reads ahead goes on pinning memory meanwhile.
        with torch.cuda.graph(
            graph, pool=pools[0] if pools else None, capture_error_mode="thread_local"
        ):
            loss = self._run(ids_BT, targets_BT, None, scale)
        return _Captured(graph, ids_BT, targets_BT, loss)


class _Captured:
    """A graph with the tensors that it reads and writes."""

    def __init__(
        self, graph: torch.cuda.CUDAGraph, ids_BT: Tensor, targets_BT: Tensor, loss: Tensor
    ) -> None:
        self.graph, self.ids_BT, self.targets_BT, self.loss = graph, ids_BT, targets_BT, loss

    def replay(self, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
        self.ids_BT.copy_(ids_BT)
        self.targets_BT.copy_(targets_BT)
        self.graph.replay()
        return self.loss
