"""`optim=adamw`: AdamW for everything, and the AdamW groups that other optimizers use."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pgolf.distributed import World
from pgolf.optim.groups import NamedParameters, Rule, split_by_rules

RULES = (Rule(r"", "decayed", ndims=(2,)), Rule(r"", "plain"))


class AdamWGroups:
    """torch's AdamW over groups that have their own learning rate and weight decay.

    Args:
        groups: (parameters, learning rate, weight decay) of each group.
        beta1, beta2, eps: Adam's own.
    """

    def __init__(
        self,
        groups: list[tuple[NamedParameters, float, float]],
        *,
        beta1: float,
        beta2: float,
        eps: float,
    ) -> None:
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

    def step(self, lr_scale: float) -> None:
        for group, base_lr in zip(self.adamw.param_groups, self.base_lrs, strict=True):
            group["lr"] = base_lr * lr_scale
        self.adamw.step()

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
        self.grad_clip_norm = grad_clip_norm
        groups = split_by_rules(named_parameters, RULES)
        self.groups = AdamWGroups(
            [(groups["decayed"], lr, weight_decay), (groups["plain"], lr, 0.0)],
            beta1=beta1,
            beta2=beta2,
            eps=eps,
        )

    def step(self, lr_scale: float, step: int) -> None:
        """Clip, update, drop the gradients. Gradients are averaged over the ranks already."""
        nn.utils.clip_grad_norm_(self.parameters, self.grad_clip_norm)
        self.groups.step(lr_scale)
        drop_gradients(self.parameters)

    def state_dict(self) -> dict[str, Any]:
        return self.groups.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.groups.load_state_dict(state)


def drop_gradients(parameters: list[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None
