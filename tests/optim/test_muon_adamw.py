"""The three groups together: who is updated how, clip, resume, and two workers."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import nn

from pgolf.distributed import World
from pgolf.errors import UserError
from pgolf.optim.adamw import AdamWOptimizer
from pgolf.optim.groups import split_by_rules
from pgolf.optim.muon_adamw import RULES, MuonAdamW
from tests.model.tiny import random_ids, tiny_baseline, tiny_recurrent, weights
from tests.two_workers import run_in_two_workers


def build(kind: str, model: nn.Module, world: World | None = None) -> Any:
    named = list(model.named_parameters())
    if kind == "adamw":
        return AdamWOptimizer(named, world or World(), lr=0.01)
    coefficients = "polar_express" if kind == "muon_polar" else "quintic"
    return MuonAdamW(
        named, world or World(), muon_momentum_warmup_steps=4, ns_coefficients=coefficients
    )


def train(model: Any, optimizer: Any, steps: range) -> list[float]:
    losses = []
    for step in steps:
        tokens = random_ids(4, 9, seed=step % 2)
        loss = model(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        optimizer.step(1.0, step)
        losses.append(loss.item())
    return losses


def test_the_groups_of_recurrent3() -> None:
    groups = split_by_rules(list(tiny_recurrent().named_parameters()), RULES)
    names = {group: {name for name, _ in named} for group, named in groups.items()}
    assert names["embed"] == {"tok_emb.weight"}
    assert all(name.endswith(".weight") for name in names["matrix"])
    assert len(names["matrix"]) == 5 * 6
    assert {"skip_weights", "skip_gates", "blocks.2.resid_mix"} <= names["scalar"]
    assert len(names["scalar"]) == 2 + 5 * 4


def test_a_parameter_in_no_group_is_named() -> None:
    named = [*tiny_baseline().named_parameters(), ("head.weight", nn.Parameter(torch.zeros(2, 3)))]
    with pytest.raises(UserError, match=r"head\.weight \(2, 3\)"):
        MuonAdamW(named, World())


@pytest.mark.parametrize("kind", ["muoneq_r", "muon_polar", "adamw"])
@pytest.mark.parametrize("tiny", [tiny_recurrent, tiny_baseline])
def test_loss_falls_and_every_parameter_moves(kind: str, tiny: Any) -> None:
    model = tiny()
    model.recurrence(True)
    before = weights(model)
    losses = train(model, build(kind, model), range(30))
    assert losses[-1] < 0.8 * losses[0]
    for name, value in model.state_dict().items():
        assert not torch.equal(value, before[name]), name
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("kind", ["muoneq_r", "adamw"])
def test_a_resumed_run_is_bit_equal(kind: str) -> None:
    straight, first = tiny_recurrent(), tiny_recurrent()
    train(straight, build(kind, straight), range(6))
    optimizer = build(kind, first)
    train(first, optimizer, range(3))
    file = io.BytesIO()
    torch.save({"model": first.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second = tiny_recurrent(seed=5)
    second.load_state_dict(saved["model"])
    resumed = build(kind, second)
    resumed.load_state_dict(saved["optimizer"])
    train(second, resumed, range(3, 6))
    for name, value in straight.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_a_state_from_before_the_first_step_resets_the_optimizer() -> None:
    # As after the warm-up steps that only compile.
    model = tiny_recurrent()
    optimizer, start = build("muoneq_r", model), copy.deepcopy(model.state_dict())
    state = copy.deepcopy(optimizer.state_dict())
    first = train(model, optimizer, range(3))
    model.load_state_dict(start)
    optimizer.load_state_dict(state)
    assert train(model, optimizer, range(3)) == first


def test_momentum_warms_up_linearly() -> None:
    optimizer = MuonAdamW(list(tiny_baseline().named_parameters()), World())
    values = [optimizer.momentum(step) for step in (0, 750, 1500, 9999)]
    assert values == pytest.approx([0.92, 0.955, 0.99, 0.99])


def test_lr_scale_zero_changes_nothing() -> None:
    model = tiny_recurrent()
    before = weights(model)
    optimizer = build("muoneq_r", model)
    tokens = random_ids(4, 9)
    model(tokens[:, :-1], tokens[:, 1:]).backward()
    optimizer.step(0.0, 0)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def reference_gradients(optimizer: Any, gradients: list[torch.Tensor]) -> list[torch.Tensor]:
    """What enters Muon's momentum and AdamW's first moment, by torch's clip."""
    parameters = [nn.Parameter(torch.zeros_like(g)) for g in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    nn.utils.clip_grad_norm_(parameters, optimizer.grad_clip_norm)
    return [p.grad for p in parameters if p.grad is not None]


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_norm_that_clips_is_that_of_all_groups_together(scale: float) -> None:
    named = [
        ("blocks.0.a.weight", nn.Parameter(torch.zeros(4, 6))),
        ("blocks.1.a.weight", nn.Parameter(torch.zeros(4, 6))),
        ("tok_emb.weight", nn.Parameter(torch.zeros(8, 6))),
        ("blocks.0.q_gain", nn.Parameter(torch.zeros(3))),
    ]
    optimizer = MuonAdamW(named, World())
    gradients = [scale * torch.randn(p.shape) for _, p in named]
    for (_, parameter), gradient in zip(named, gradients, strict=True):
        parameter.grad = gradient.clone()
    optimizer.step(1.0, 0)
    expected = reference_gradients(optimizer, gradients)
    state = optimizer.state_dict()
    found = list(state["muon"].values())
    found += [moments["exp_avg"] / (1 - 0.9) for moments in state["adamw"]["state"].values()]
    torch.testing.assert_close(found, expected)


def test_adamw_alone_clips_by_the_global_norm() -> None:
    parameter = nn.Parameter(torch.zeros(4))
    optimizer = AdamWOptimizer([("a", parameter)], World(), lr=0.1, grad_clip_norm=0.3)
    parameter.grad = torch.tensor([3e3, 0.0, 4e3, 0.0])
    optimizer.step(1.0, 0)
    moment = optimizer.state_dict()["state"][0]["exp_avg"] / (1 - 0.9)
    torch.testing.assert_close(moment, torch.tensor([0.18, 0.0, 0.24, 0.0]))


# Odd numbers of matrices of a shape, so that two ranks need padding; a parameter without gradient.
SHAPES = {
    **{f"blocks.{i}.square.weight": (8, 8) for i in range(3)},
    **{f"blocks.{i}.tall.weight": (12, 8) for i in range(2)},
    "blocks.0.wide.weight": (8, 12),
    "tok_emb.weight": (16, 8),
    "blocks.0.q_gain": (4,),
    "blocks.0.unused": (4,),
}


def parameters_of_one() -> list[tuple[str, nn.Parameter]]:
    generator = torch.Generator().manual_seed(0)
    return [(n, nn.Parameter(torch.randn(s, generator=generator))) for n, s in SHAPES.items()]


def set_gradients(named: list[tuple[str, nn.Parameter]], step: int, ranks: list[int]) -> None:
    """The mean of the ranks' gradients at a step."""
    for index, (name, parameter) in enumerate(named):
        seeds = [1000 * step + 10 * index + rank for rank in ranks]
        drawn = [torch.randn(SHAPES[name], generator=_seeded(seed)) for seed in seeds]
        parameter.grad = None if "unused" in name else sum(drawn) / len(ranks)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def run_steps(
    kind: str, world: World, steps: range, saved: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Weights and optimizer state after some steps, continued from `saved`."""
    named = parameters_of_one()
    optimizer = AdamWOptimizer(named, world, lr=0.01)
    if kind != "adamw":
        optimizer = MuonAdamW(named, world, muon_momentum_warmup_steps=4)  # type: ignore
    if saved is not None:
        optimizer.load_state_dict(copy.deepcopy(saved["optimizer"]))
        for name, parameter in named:
            parameter.data.copy_(saved["weights"][name])
    ranks = [world.rank] if world.world_size > 1 else [0, 1]
    for step in steps:
        set_gradients(named, step, ranks)
        optimizer.step(1.0, step)
    weights_now = {name: p.detach().clone() for name, p in named}
    return {"weights": weights_now, "optimizer": copy.deepcopy(optimizer.state_dict())}


def both_kinds(
    world: World, steps: range, saved: dict[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    kinds = ("muoneq_r", "adamw")
    return {k: run_steps(k, world, steps, saved[k] if saved else None) for k in kinds}


def test_two_ranks_equal_one_and_resume_each_other() -> None:
    start, rest = range(3), range(3, 6)
    half, whole = both_kinds(World(), start), both_kinds(World(), range(6))
    first, second = run_in_two_workers(in_two_ranks, half)
    torch.testing.assert_close(first, second, atol=0, rtol=0)  # whoever computed them
    torch.testing.assert_close(first["half"], half, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(first["whole"], whole, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(first["from one"], whole, atol=1e-6, rtol=1e-6)
    from_two = both_kinds(World(), rest, first["half"])
    torch.testing.assert_close(from_two, whole, atol=1e-6, rtol=1e-6)


def in_two_ranks(world: World, half_by_one: dict[str, Any]) -> dict[str, Any]:
    return {
        "half": both_kinds(world, range(3)),
        "whole": both_kinds(world, range(6)),
        "from one": both_kinds(world, range(3, 6), half_by_one),
    }
