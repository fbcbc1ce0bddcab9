"""`optim=muoneq_r`: MuonEq-R for block matrices, AdamW for embedding and vectors (PR #1738).

`optim=muon_polar` is the same with the Newton-Schulz coefficients of Polar Express.
"""

from __future__ import annotations

from typing import Any, Literal

from pgolf.distributed import World
from pgolf.optim.adamw import AdamWGroups, drop_gradients
from pgolf.optim.clip import mean_and_clip_scale
from pgolf.optim.groups import NamedParameters, Rule, split_by_rules
from pgolf.optim.muon import Muon
from pgolf.optim.newton_schulz import coefficient_schedule, newton_schulz_dtype
from pgolf.train.schedule import linear_warmup

# First match wins. Control tensors are two-dimensional at times (resid_mix, skip_weights) and yet
# no matrices: each row is a vector of its own.
RULES = (
    Rule(r"^tok_emb\.", "embed"),
    Rule(r"attn_scale|mlp_scale|resid_mix|q_gain|skip_weights|skip_gates", "scalar"),
    Rule(r"", "scalar", ndims=(0, 1)),
    Rule(r"^blocks\.", "matrix", ndims=(2,)),
)


class MuonAdamW:
    """Three groups: matrices by MuonEq-R, the embedding and the control tensors by AdamW.

    Args:
        matrix_lr, embed_lr, scalar_lr: learning rates at scale 1.
        muon_momentum: momentum after its warm-up.
        muon_momentum_warmup_start, muon_momentum_warmup_steps: where it begins, how long it rises.
        ns_steps: Newton-Schulz iterations.
        ns_coefficients: their polynomials: one "quintic" as published, or those of "polar_express",
            each optimal for its step.
        ns_dtype: their dtype; "auto" is bf16, but fp32 on the CPU.
        muon_wd, embed_wd, scalar_wd: decoupled weight decay of each group, times its rate.
        beta1, beta2, eps: Adam's own.
        grad_clip_norm: bound of the global gradient norm.

    Raises:
        UserError: a parameter that belongs to no group.
    """

    def __init__(
        self,
        named_parameters: NamedParameters,
        world: World,
        *,
        matrix_lr: float = 0.022,
        embed_lr: float = 0.03,
        scalar_lr: float = 0.02,
        muon_momentum: float = 0.99,
        muon_momentum_warmup_start: float = 0.92,
        muon_momentum_warmup_steps: int = 1500,
        ns_steps: int = 5,
        ns_coefficients: Literal["quintic", "polar_express"] = "quintic",
        ns_dtype: Literal["auto", "bf16", "fp32"] = "auto",
        muon_wd: float = 0.095,
        embed_wd: float = 0.085,
        scalar_wd: float = 0.02,
        beta1: float = 0.9,
        beta2: float = 0.95,
        eps: float = 1e-8,
        grad_clip_norm: float = 0.3,
    ) -> None:
        self.world = world
        self.parameters = [p for _, p in named_parameters]
        self.matrix_lr, self.grad_clip_norm = matrix_lr, grad_clip_norm
        self.muon_momentum = muon_momentum
        self.warmup_start = muon_momentum_warmup_start
        self.warmup_steps = muon_momentum_warmup_steps
        groups = split_by_rules(named_parameters, RULES)
        self.muon = Muon(
            groups["matrix"],
            world,
            coefficients=coefficient_schedule(ns_coefficients, ns_steps),
            ns_dtype=newton_schulz_dtype(ns_dtype, world.device),
            weight_decay=muon_wd,
        )
        self.adamw = AdamWGroups(
            [(groups["embed"], embed_lr, embed_wd), (groups["scalar"], scalar_lr, scalar_wd)],
            world,
            beta1=beta1,
            beta2=beta2,
            eps=eps,
        )

    def step(self, lr_scale: float, step: int) -> None:
        """Average this rank's gradients with the others', clip, update, drop the gradients.

        Args:
            lr_scale: multiplier of all learning rates.
            step: optimizer steps done before this one, for the momentum's warm-up.
        """
        self.muon.collect()
        self.adamw.collect()
        # Each rank has a part of the matrices, and all of the rest.
        square_norm = self.world.sum_(self.muon.square_norm()) + self.adamw.square_norm()
        scale = mean_and_clip_scale(square_norm, self.world.world_size, self.grad_clip_norm)
        self.muon.step(self.matrix_lr * lr_scale, self.momentum(step), scale)
        self.adamw.step(lr_scale, scale)
        drop_gradients(self.parameters)

    def momentum(self, step: int) -> float:
        return linear_warmup(
            step,
            start=self.warmup_start,
            end=self.muon_momentum,
            warmup_steps=self.warmup_steps,
        )

    def state_dict(self) -> dict[str, Any]:
        """The same on every rank and for any number of them; to be called on all."""
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.muon.load_state_dict(state["muon"])
        self.adamw.load_state_dict(state["adamw"])
