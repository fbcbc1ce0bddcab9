"""MuonEq-R: momentum, rows of equal norm, then orthogonalization by Newton-Schulz.

Muon: Keller Jordan, https://kellerjordan.github.io/posts/muon; row normalization, split over the
ranks and weight decay as in PR #1738. Legend: N matrices of a shape (padded to a multiple of the
ranks), n of them on this rank, R rows, C columns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pgolf.distributed import DONE, Pending, World
from pgolf.optim.clip import sum_of_squares
from pgolf.optim.newton_schulz import EPSILON, Coefficients, newton_schulz


def normalize_rows(matrices_NRC: Tensor, dtype: torch.dtype) -> Tensor:
    """Each row divided by its norm: neurons with small gradients take part in the update, too."""
    norms_NR1 = matrices_NRC.norm(dim=-1, keepdim=True).clamp_min(EPSILON)
    # Divided in the matrices' own dtype and rounded on the way out, in one pass.
    return torch.div(matrices_NRC, norms_NR1, out=torch.empty_like(matrices_NRC, dtype=dtype))


class Muon:
    """Updates matrices: p <- p*(1 - lr*weight_decay) - lr*orthogonal(row-normed momentum).

    All matrices of a shape are one batch. Each rank gets the gradients of its slice of the batch by
    a reduce-scatter, keeps momentum for that slice alone, orthogonalizes it, and shares the result
    by an all-gather while it works on the next shape. Parameters are the same on every rank.
    A step is `collect`, `square_norm` (for the clipping), `step`, in this order on every rank.

    Args:
        named: matrices with their names.
        world: the ranks to share the work with.
        coefficients: (a, b, c) of each Newton-Schulz step.
        ns_dtype: dtype of the Newton-Schulz steps and of what the ranks send each other.
        weight_decay: decoupled, times the learning rate.
    """

    def __init__(
        self,
        named: list[tuple[str, nn.Parameter]],
        world: World,
        *,
        coefficients: Coefficients,
        ns_dtype: torch.dtype,
        weight_decay: float,
    ) -> None:
        self.device, self.weight_decay = world.device, weight_decay
        self.coefficients = coefficients
        by_shape: dict[torch.Size, list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in named:
            by_shape.setdefault(parameter.shape, []).append((name, parameter))
        self.shapes = [_Shape(members, world, ns_dtype) for members in by_shape.values()]

    @torch.no_grad()
    def collect(self) -> None:
        """Take the parameters' gradients (a missing one is zero); start their sums over ranks."""
        for shape in self.shapes:
            shape.collect()

    @torch.no_grad()
    def square_norm(self) -> Tensor:
        """Squared norm of the summed gradients of this rank's slices, fp32 []."""
        return sum_of_squares([shape.gradient_slice() for shape in self.shapes], self.device)

    @torch.no_grad()
    def step(self, lr: float, momentum: float, gradient_scale: Tensor) -> None:
        """One update from the collected gradients times `gradient_scale` (fp32 [])."""
        for shape in self.shapes:
            shape.orthogonalize(momentum, gradient_scale, self.coefficients)
        for shape in self.shapes:
            shape.apply(lr, self.weight_decay)

    def state_dict(self) -> dict[str, Tensor]:
        """Momentum by parameter name, whole on every rank; to be called on all of them."""
        return {
            name: momentum_RC
            for shape in self.shapes
            for name, momentum_RC in zip(shape.names, shape.whole_momentum(), strict=True)
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for shape in self.shapes:
            for name, momentum_RC in shape.own_momentum():
                momentum_RC.copy_(state[name])


class _Shape:
    """All matrices of one shape: one batch, and this rank's slice of its momentum.

    The buffers live as long as the optimizer. Padding is zero and stays so.
    """

    def __init__(
        self, members: list[tuple[str, nn.Parameter]], world: World, ns_dtype: torch.dtype
    ) -> None:
        self.world = world
        self.names = [name for name, _ in members]
        self.parameters: list[Tensor] = [parameter for _, parameter in members]
        size_RC, device = self.parameters[0].shape, self.parameters[0].device
        # A tall matrix has fewer singular values for its entries: the factor evens out its update.
        self.lr_factor = max(1.0, size_RC[0] / size_RC[1]) ** 0.5
        per_rank = -(-len(members) // world.world_size)
        self.padded_shape = (per_rank * world.world_size, *size_RC)
        self.gradient_NRC = torch.zeros(self.padded_shape, device=device)
        self.gradients = list(self.gradient_NRC.unbind())[: len(members)]
        self.direction_NRC = torch.zeros(self.padded_shape, device=device, dtype=ns_dtype)
        self.momentum_nRC = torch.zeros(per_rank, *size_RC, device=device)
        self.pending: Pending = DONE

    def collect(self) -> None:
        pairs = list(zip(self.gradients, [p.grad for p in self.parameters], strict=True))
        present = [(own, grad) for own, grad in pairs if grad is not None]
        if present:
            torch._foreach_copy_([own for own, _ in present], [grad for _, grad in present])
        for own, grad in pairs:
            if grad is None:
                own.zero_()
        self.pending = self.world.start_reduce_scatter_(self.gradient_NRC)

    def gradient_slice(self) -> Tensor:
        self.pending.wait()
        return self.world.share(self.gradient_NRC)

    def orthogonalize(self, momentum: float, scale: Tensor, coefficients: Coefficients) -> None:
        """The update of this rank's slice, and its way to the other ranks."""
        gradient_nRC = self.world.share(self.gradient_NRC).mul_(scale)
        torch.add(gradient_nRC, self.momentum_nRC, alpha=momentum, out=self.momentum_nRC)
        nesterov_nRC = gradient_nRC.add_(self.momentum_nRC, alpha=momentum)
        dtype = self.direction_NRC.dtype
        direction_nRC = newton_schulz(normalize_rows(nesterov_nRC, dtype), coefficients, dtype)
        self.world.share(self.direction_NRC).copy_(direction_nRC)
        self.pending = self.world.start_all_gather_(self.direction_NRC)

    def apply(self, lr: float, weight_decay: float) -> None:
        self.pending.wait()
        # Multi-tensor kernels want one dtype, and the gradients are used up.
        self.gradient_NRC.copy_(self.direction_NRC)
        torch._foreach_mul_(self.parameters, 1.0 - lr * weight_decay)
        torch._foreach_add_(self.parameters, self.gradients, alpha=-lr * self.lr_factor)

    def whole_momentum(self) -> list[Tensor]:
        """Momentum of every matrix; of a single rank the tensors themselves, not copies."""
        momentum_NRC = self.momentum_nRC
        if self.world.world_size > 1:
            momentum_NRC = momentum_NRC.new_zeros(self.padded_shape)
            self.world.share(momentum_NRC).copy_(self.momentum_nRC)
            self.world.start_all_gather_(momentum_NRC).wait()
        return list(momentum_NRC.unbind())[: len(self.names)]

    def own_momentum(self) -> list[tuple[str, Tensor]]:
        """Names and momentum of this rank's slice, without padding."""
        first = self.world.rank * len(self.momentum_nRC)
        return list(zip(self.names[first:], self.momentum_nRC.unbind(), strict=False))
