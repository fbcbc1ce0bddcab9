"""Milliseconds of an optimizer step with clipping, and of the average of weights, per step.

python bench/optimizer.py [--scale full] [--device cuda] [--rounds N] [--json] [--save]
torchrun --nproc-per-node N bench/optimizer.py ... shares the work out.

Medians over rounds on the parameters of model=recurrent3, the device idle before and after each.
Beside pgolf's there is the same mathematics as one would first write it: a loop over matrices,
torch's clipping and AdamW, a loop for the average; it works alone, without any other rank. Last,
how far apart both leave the weights, as a part of how far they moved: bf16 rounding.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import record
import torch
from hydra.utils import instantiate
from torch import Tensor, nn

from pgolf.clock import Clock
from pgolf.config import compose
from pgolf.distributed import World, join_world
from pgolf.optim.groups import NamedParameters, split_by_rules
from pgolf.optim.muon_adamw import RULES
from pgolf.train.ema import WeightAverage

DECAY, WARM_UP_ROUNDS = 0.9965, 3
Part = tuple[Callable[[int], None], Callable[[int], None]]


class PlainOptimizer:
    """MuonEq-R and AdamW with a loop over matrices; the settings are those of optim=muoneq_r."""

    def __init__(self, named: NamedParameters, config: dict[str, Any], dtype: torch.dtype) -> None:
        groups = split_by_rules(named, RULES)
        self.config, self.dtype = config, dtype
        self.parameters = [p for _, p in named]
        self.matrices = [p for _, p in groups["matrix"]]
        self.momenta = [torch.zeros_like(p) for p in self.matrices]
        self.adamw = torch.optim.AdamW(
            [
                {
                    "params": [p for _, p in groups[group]],
                    "lr": config[f"{group}_lr"],
                    "weight_decay": config[f"{group}_wd"],
                }
                for group in ("embed", "scalar")
            ],
            betas=(config["beta1"], config["beta2"]),
            eps=config["eps"],
        )

    @torch.no_grad()
    def step(self, momentum: float) -> None:
        nn.utils.clip_grad_norm_(self.parameters, self.config["grad_clip_norm"])
        lr, decay = self.config["matrix_lr"], self.config["muon_wd"]
        for parameter, buffer in zip(self.matrices, self.momenta, strict=True):
            assert parameter.grad is not None
            buffer.mul_(momentum).add_(parameter.grad)
            update = self.orthogonal(parameter.grad + momentum * buffer)
            parameter.mul_(1 - lr * decay).add_(update.float(), alpha=-lr)
        self.adamw.step()

    def orthogonal(self, update: Tensor) -> Tensor:
        X = (update / update.norm(dim=1, keepdim=True).clamp_min(1e-7)).to(self.dtype)
        X = X / (X.norm() + 1e-7)
        tall = X.size(0) > X.size(1)
        X = X.T if tall else X
        for _ in range(self.config["ns_steps"]):
            gram = X @ X.T
            X = 3.4445 * X + (-4.7750 * gram + 2.0315 * gram @ gram) @ X
        X = X.T if tall else X
        return X * max(1.0, X.size(0) / X.size(1)) ** 0.5


def plain_parts(model: nn.Module, config: dict[str, Any], world: World) -> Part:
    """Optimizer step and update of the average, each written as a loop."""
    dtype = torch.bfloat16 if world.device.type == "cuda" else torch.float32
    optimizer = PlainOptimizer(list(model.named_parameters()), config, dtype)
    averages = {name: p.detach().float().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(_: int) -> None:
        for name, parameter in model.named_parameters():
            averages[name].mul_(DECAY).add_(parameter.detach().float(), alpha=1 - DECAY)

    return lambda step: optimizer.step(config["muon_momentum"]), update


def pgolf_parts(model: nn.Module, config: dict[str, Any], world: World) -> Part:
    partial = instantiate(config, _partial_=True, _convert_="all")
    # No warm-up of the momentum, so that both do the same.
    settings = {"muon_momentum_warmup_start": config["muon_momentum"]}
    optimizer = partial(list(model.named_parameters()), world, **settings)
    average = WeightAverage(model, decay=DECAY, ramp=False)
    return lambda step: optimizer.step(1.0, step), average.update


def set_gradients(model: nn.Module, seed: int) -> None:
    """Random gradients, the same for every rank and both parts."""
    parameters = list(model.parameters())
    generator = torch.Generator(parameters[0].device).manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter).normal_(generator=generator)


def measure(
    model: nn.Module, parts: Part, rounds: int, world: World
) -> tuple[list[float], list[Tensor]]:
    """Median milliseconds of each part, and how far every parameter moved."""
    start = [p.detach().clone() for p in model.parameters()]
    clock, names = Clock({}, world.synchronize), ("optimizer", "average")
    for index in range(WARM_UP_ROUNDS + rounds):
        set_gradients(model, index)
        for name, part in zip(names, parts, strict=True):
            with clock.phase(f"{name} {index}", "bench"):
                part(index)
    taken = range(WARM_UP_ROUNDS, WARM_UP_ROUNDS + rounds)
    medians = [statistics.median(clock.seconds(f"{name} {i}") for i in taken) for name in names]
    moved = [p.detach().float() - s.float() for p, s in zip(model.parameters(), start, strict=True)]
    return [1e3 * median for median in medians], moved


def figures_of(scale: str, rounds: int, world: World) -> dict[str, Any]:
    config = compose([f"scale={scale}", "model=recurrent3", "optim=muoneq_r"])
    measured = {}
    for kind, make in (("pgolf", pgolf_parts), ("plain", plain_parts)):
        torch.manual_seed(0)
        with world.device:
            model = instantiate(config["model"], _convert_="all")
        measured[kind] = measure(model, make(model, config["optim"], world), rounds, world)
    (ours, moved), (plain, moved_plainly) = measured["pgolf"], measured["plain"]
    figures: dict[str, Any] = {"ranks": world.world_size, "rounds": rounds}
    for name, own, other in zip(("optimizer and clip", "average"), ours, plain, strict=True):
        figures |= {f"{name}, ms": own, f"{name}, plain, ms": other, f"{name}, ratio": other / own}
    pairs = zip(moved, moved_plainly, strict=True)
    figures["weights apart"] = max(float((a - b).norm() / b.norm()) for a, b in pairs)
    return {f"{device_name(world)}: {name}": value for name, value in figures.items()}


def device_name(world: World) -> str:
    names = world.device_names()
    return names[world.local_rank] if names else "CPU"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", default="full", help="of conf/scale; nano on a CPU")
    cuda = torch.cuda.is_available()
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if cuda else "cpu")
    parser.add_argument("--rounds", type=int, default=20)
    record.add_options(parser)
    options = parser.parse_args()
    with join_world(options.device, "fp32") as world:
        figures = figures_of(options.scale, options.rounds, world)
        if world.is_main:
            record.finish("optimizer", figures, options)


if __name__ == "__main__":
    main()
