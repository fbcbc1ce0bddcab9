"""`optim=adamw`: AdamW for everything, and the AdamW groups that other optimizers use."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pgolf.distributed import DONE, Pending, World
from pgolf.optim.clip import by_dtype, mean_and_clip_scale, sum_of_squares
from pgolf.optim.groups import NamedParameters, Rule, split_by_rules

RULES = (Rule(r"", "decayed", ndims=(2,)), Rule(r"", "plain"))


class AdamWGroups:
    """torch's AdamW over groups that have their own learning rate and weight decay.

    A step is `collect`, `square_norm` (for the clipping), `step`, in this order on every rank.

    Args:
        groups: (parameters, learning rate, weight decay) of each group.
        world: the ranks whose gradients are summed, in fp32 and by one all-reduce.
        beta1, beta2, eps: Adam's own.
    """

    def __init__(
        self,
        groups: list[tuple[NamedParameters, float, float]],
        world: World,
        *,
        beta1: float,
        beta2: float,
        eps: float,
    ) -> None:
        self.world = world
        self.parameters = [p for named, _, _ in groups for _, p in named]
        self.base_lrs = [lr for named, lr, _ in groups if named]
        self.adamw = torch.optim.AdamW(
            [
                {"params": [p for _, p in named], "lr": lr, "weight_decay": weight_decay}
                for named, lr, weight_decay in groups
                if named
            ],
            betas=(beta1, beta2),
            eps=eps,
            # One kernel for all tensors, on the CPU as well.
            fused=True,
        )
        self.updated: list[nn.Parameter] = []
        self.sums: list[Tensor] = []
        self.pending: Pending = DONE

    @torch.no_grad()
    def collect(self) -> None:
        """Take the parameters' gradients and start their sums over the ranks.

        A parameter without a gradient, the same ones on every rank, is not updated.
        """
        self.updated = [p for p in self.parameters if p.grad is not None]
        self.sums = [p.grad for p in self.updated if p.grad is not None]
        if self.world.world_size > 1 and self.sums:
            flat = torch.cat([g.float().flatten() for g in self.sums])
            parts = flat.split([g.numel() for g in self.sums])
            self.sums = [part.view_as(g) for part, g in zip(parts, self.sums, strict=True)]
            self.pending = self.world.start_sum_(flat)

    @torch.no_grad()
    def square_norm(self) -> Tensor:
        """Squared norm of the summed gradients, the same on every rank, fp32 []."""
        self.pending.wait()
        return sum_of_squares(self.sums, self.world.device)

    @torch.no_grad()
    def step(self, lr_scale: float, gradient_scale: Tensor) -> None:
        """One update from the collected gradients times `gradient_scale` (fp32 [])."""
        for sums in by_dtype(self.sums):
            torch._foreach_mul_(sums, gradient_scale)
        for parameter, total in zip(self.updated, self.sums, strict=True):
            parameter.grad = total.to(parameter.dtype)
        for group, base_lr in zip(self.adamw.param_groups, self.base_lrs, strict=True):
            group["lr"] = base_lr * lr_scale
        self.adamw.step()
        self.updated, self.sums = [], []

    def state_dict(self) -> dict[str, Any]:
        return self.adamw.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.adamw.load_state_dict(state)


class AdamWOptimizer:
    """Every parameter by AdamW; weight decay on matrices and the embedding only.

    Args:
        lr: learning rate at scale 1.
        weight_decay: decoupled, times the learning rate.
        beta1, beta2, eps: Adam's own.
        grad_clip_norm: bound of the global gradient norm.
    """

    def __init__(
        self,
        named_parameters: NamedParameters,
        world: World,
        *,
        lr: float,
        weight_decay: float = 0.1,
        beta1: float = 0.9,
        beta2: float = 0.95,
        eps: float = 1e-8,
        grad_clip_norm: float = 1.0,
    ) -> None:
        self.parameters = [p for _, p in named_parameters]
        self.world_size, self.grad_clip_norm = world.world_size, grad_clip_norm
        groups = split_by_rules(named_parameters, RULES)
        self.groups = AdamWGroups(
            [(groups["decayed"], lr, weight_decay), (groups["plain"], lr, 0.0)],
            world,
            beta1=beta1,
            beta2=beta2,
            eps=eps,
        )

    def step(self, lr_scale: float, step: int) -> None:
        """Average this rank's gradients with the others', clip, update, drop the gradients."""
        self.groups.collect()
        square_norm = self.groups.square_norm()
        scale = mean_and_clip_scale(square_norm, self.world_size, self.grad_clip_norm)
        self.groups.step(lr_scale, scale)
        drop_gradients(self.parameters)

    def state_dict(self) -> dict[str, Any]:
        return self.groups.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.groups.load_state_dict(state)


def drop_gradients(parameters: list[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None
