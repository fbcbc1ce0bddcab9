"""MuonEq-R: momentum, rows of equal norm, then orthogonalization by Newton-Schulz.

Muon: Keller Jordan, https://kellerjordan.github.io/posts/muon; row normalization, split over the
ranks and weight decay as in PR #1738. Legend: N matrices of a shape, R rows, C columns.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from pgolf.distributed import World

# Quintic whose iteration drives singular values to about 1, steep at 0 (Keller Jordan).
A, B, C = 3.4445, -4.7750, 2.0315
EPSILON = 1e-7


def newton_schulz(matrices_NRC: Tensor, num_steps: int, dtype: torch.dtype) -> Tensor:
    """Replace the singular values of each matrix by about 1.

    Args:
        matrices_NRC: any number of matrices of one shape.
        num_steps: iterations; 5 bring singular values into about [0.7, 1.2].
        dtype: dtype of the products and of the result, bf16 in the recipe.
    """
    X = matrices_NRC.to(dtype)
    # Spectral norm at most 1, which the iteration needs.
    X = X / (X.norm(dim=(-2, -1), keepdim=True) + EPSILON)
    tall = X.size(-2) > X.size(-1)
    if tall:
        X = X.mT
    for _ in range(num_steps):
        gram = X @ X.mT
        X = A * X + (B * gram + C * gram @ gram) @ X
    return X.mT if tall else X


def normalize_rows(matrices_NRC: Tensor) -> Tensor:
    """Each row divided by its norm: neurons with small gradients take part in the update, too."""
    return matrices_NRC / matrices_NRC.norm(dim=-1, keepdim=True).clamp_min(EPSILON)


def newton_schulz_dtype(choice: str, device: torch.device) -> torch.dtype:
    """Settle "auto": bf16 as published, but fp32 on the CPU, so that every CPU gives one result."""
    if choice == "auto":
        choice = "fp32" if device.type == "cpu" else "bf16"
    return torch.float32 if choice == "fp32" else torch.bfloat16


class Muon:
    """Updates matrices: p <- p*(1 - lr*weight_decay) - lr*orthogonal(row-normed momentum).

    Momentum is kept on every rank (gradients are equal there), so a checkpoint of one rank is
    whole; the Newton-Schulz work of each shape is dealt over the ranks and summed by one
    all-reduce.

    Args:
        named: matrices with their names.
        world: the ranks to share the work with.
        ns_steps: Newton-Schulz iterations.
        ns_dtype: dtype of the iteration.
        weight_decay: decoupled, times the learning rate.
    """

    def __init__(
        self,
        named: list[tuple[str, nn.Parameter]],
        world: World,
        *,
        ns_steps: int,
        ns_dtype: Literal["auto", "bf16", "fp32"],
        weight_decay: float,
    ) -> None:
        self.world, self.ns_steps, self.weight_decay = world, ns_steps, weight_decay
        self.ns_dtype = newton_schulz_dtype(ns_dtype, world.device)
        by_shape: dict[torch.Size, list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in named:
            by_shape.setdefault(parameter.shape, []).append((name, parameter))
        self.shapes = [_Shape(members) for members in by_shape.values()]

    @torch.no_grad()
    def step(self, lr: float, momentum: float) -> None:
        """One update from the parameters' gradients (a missing one counts as zero)."""
        directions = [self.direction(shape, momentum) for shape in self.shapes]
        if self.world.world_size > 1 and directions:
            flat = self.world.sum_(torch.cat([d.flatten() for d in directions]))
            parts = flat.split([d.numel() for d in directions])
            directions = [p.view_as(d) for p, d in zip(parts, directions, strict=True)]
        for shape, direction_NRC in zip(self.shapes, directions, strict=True):
            torch._foreach_mul_(shape.parameters, 1.0 - lr * self.weight_decay)
            updates = list(direction_NRC.to(shape.parameters[0].dtype).unbind())
            torch._foreach_add_(shape.parameters, updates, alpha=-lr)

    def direction(self, shape: _Shape, momentum: float) -> Tensor:
        """The bf16 update of one shape: this rank's share, zeros elsewhere."""
        gradient_NRC = torch.stack([_gradient(p) for p in shape.parameters])
        shape.momentum_NRC.mul_(momentum).add_(gradient_NRC)
        rank, world_size = self.world.rank, self.world.world_size
        nesterov_nRC = gradient_NRC[rank::world_size].add(
            shape.momentum_NRC[rank::world_size], alpha=momentum
        )
        rows, columns = nesterov_nRC.shape[-2:]
        share_nRC = newton_schulz(normalize_rows(nesterov_nRC), self.ns_steps, self.ns_dtype)
        # A tall matrix has fewer singular values for its entries: the factor evens out its update.
        share_nRC = share_nRC * max(1.0, rows / columns) ** 0.5
        if world_size == 1:
            return share_nRC
        all_NRC = torch.zeros_like(gradient_NRC, dtype=share_nRC.dtype)
        all_NRC[rank::world_size] = share_nRC
        return all_NRC

    def state_dict(self) -> dict[str, Tensor]:
        """Momentum by parameter name."""
        return {
            name: shape.momentum_NRC[i]
            for shape in self.shapes
            for i, name in enumerate(shape.names)
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, momentum_RC in self.state_dict().items():
            momentum_RC.copy_(state[name])


class _Shape:
    """All matrices of one shape, which share one batched Newton-Schulz, and their momentum."""

    def __init__(self, members: list[tuple[str, nn.Parameter]]) -> None:
        self.names = [name for name, _ in members]
        self.parameters: list[Tensor] = [parameter for _, parameter in members]
        self.momentum_NRC = torch.zeros_like(torch.stack(self.parameters).detach())


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
