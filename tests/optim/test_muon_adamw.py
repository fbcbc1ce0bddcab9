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
    return MuonAdamW(named, world or World(), muon_momentum_warmup_steps=4)


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


@pytest.mark.parametrize("kind", ["muoneq_r", "adamw"])
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


def test_gradients_are_clipped_by_their_global_norm() -> None:
    parameter = nn.Parameter(torch.zeros(4))
    seen = []
    optimizer = AdamWOptimizer([("a", parameter)], World(), lr=0.1, grad_clip_norm=0.3)
    optimizer.groups.step = lambda lr_scale: seen.append(parameter.grad.clone())  # type: ignore
    for scale in (1e-3, 1e3):
        parameter.grad = scale * torch.tensor([3.0, 0.0, 4.0, 0.0])
        optimizer.step(1.0, 0)
    torch.testing.assert_close(seen[0].norm(), torch.tensor(5e-3))
    torch.testing.assert_close(seen[1], torch.tensor([0.18, 0.0, 0.24, 0.0]), atol=1e-5, rtol=0)


def _train_in_worker(world: World) -> dict[str, torch.Tensor]:
    model = tiny_recurrent()
    optimizer = build("muoneq_r", model, world)
    train(model, optimizer, range(3))
    return {**weights(model), **optimizer.state_dict()["muon"]}


@pytest.mark.slow
def test_two_workers_that_share_the_work_end_like_one() -> None:
    alone = _train_in_worker(World())
    first, second = run_in_two_workers(_train_in_worker)
    for name, value in alone.items():
        torch.testing.assert_close(first[name], value, atol=2e-3, rtol=2e-3)
        # Both ranks hold the same numbers, whoever computed them.
        assert torch.equal(first[name], second[name]), name
