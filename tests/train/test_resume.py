"""Interrupted training ends as if it had not been; warm-up leaves no trace; both are charged."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pgolf.checkpoint import Checkpoints
from pgolf.clock import Clock
from pgolf.distributed import World
from pgolf.events import EventLog
from pgolf.optim.adamw import AdamWOptimizer
from pgolf.train.trainer import Trainer, _Loop
from tests.model.tiny import tiny_recurrent, weights
from tests.train.tiny_run import (
    SETTINGS,
    Timer,
    TinyLoader,
    assert_equal,
    events_of,
    fit,
    muon,
    same,
)


@pytest.mark.parametrize("optimizer", [muon, lambda m, w: AdamWOptimizer(
    list(m.named_parameters()), w, lr=0.01)])  # fmt: skip
@pytest.mark.parametrize("stop_at", [7, 9, 14])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    tmp_path: Path, stop_at: int, optimizer: Callable[..., Any]
) -> None:
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole, whole_average, whole_state, _ = fit(tmp_path / "whole", optimizer=optimizer)
    with pytest.raises(KeyboardInterrupt):  # two batches a step; checkpoints after steps 3 and 6
        fit(tmp_path / "cut", loader=TinyLoader(stop_at=stop_at), optimizer=optimizer)
    # The other process: another model and generator state, which the checkpoint replaces.
    torch.manual_seed(99)
    cut, average, state, _ = fit(tmp_path / "cut", model=tiny_recurrent(5), optimizer=optimizer)
    assert_equal(weights(cut), weights(whole))
    assert_equal(average.state_dict(), whole_average.state_dict())
    assert (state.step, state.tokens_seen) == (whole_state.step, whole_state.tokens_seen)
    assert events_of(tmp_path / "cut", "resume")[0]["step"] == (6 if stop_at == 14 else 3)


def test_only_used_seconds_are_charged(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, loader=TinyLoader(Timer(50.0), stop_at=11))
    # The process is dead for hours. Steps 1 to 5 took 10 s and half of step 6 is not counted;
    # the checkpoint is of step 3.
    _, _, state, clock = fit(tmp_path, loader=TinyLoader(Timer(9999.0)))
    assert state.step == 8 and state.elapsed_s == 10.0 + 5 * 2.0
    assert clock.charged_s("train") == 20.0
    [resume] = events_of(tmp_path, "resume")
    assert (resume["step"], resume["elapsed_s"], resume["warm_up_s"]) == (3, 10.0, 0.0)


def test_a_run_killed_before_its_first_checkpoint_begins_anew(tmp_path: Path) -> None:
    """Nothing of it is used; were its seconds charged, a short budget would train nothing."""
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, loader=TinyLoader(stop_at=4), checkpoint_every_s=1e9)
    _, _, state, clock = fit(tmp_path, checkpoint_every_s=1e9)
    assert state.step == 8 and clock.charged_s("train") == 8 * 2.0 and state.lost_s == 0.0
    [resume] = events_of(tmp_path, "resume")
    assert (resume["step"], resume["elapsed_s"]) == (0, 0.0)


def test_a_resumed_run_ends_with_its_own_budget_of_time(tmp_path: Path) -> None:
    budget = {"num_steps": None, "max_seconds": 20.0}
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, loader=TinyLoader(stop_at=11), **budget)
    _, _, state, clock = fit(tmp_path, **budget)
    # 10 s were used, of which the steps after the third bought nothing: 10 s are left, 5 steps.
    assert clock.charged_s("train") == 20.0 and state.step == 3 + 5 and state.lost_s == 4.0


# -- warm-up -------------------------------------------------------------------------------------


def make_loop(folder: Path, loader: TinyLoader, *, optimizer: Any = muon) -> _Loop:
    model = tiny_recurrent()
    clock = Clock({}, now=loader.timer)
    trainer = Trainer(**SETTINGS)
    return _Loop(
        trainer, model, optimizer(model, World()), loader, World(), clock, EventLog(None),
        Checkpoints(folder),
    )  # fmt: skip


@pytest.mark.parametrize("steps_before", [0, 2])
def test_warm_up_puts_everything_back(tmp_path: Path, steps_before: int) -> None:
    loop = make_loop(tmp_path, TinyLoader())
    for _ in range(steps_before):
        loop.train_step()
    before = copy.deepcopy(loop.snapshot())
    changed = []

    def watch(model: nn.Module, inputs: Any, loss: Tensor) -> Tensor:
        changed.append(not same(before["model"], model.state_dict()))
        return loss * (1.0 + 0.0 * torch.rand(()))

    loop.model.register_forward_hook(watch)
    loop.warm_up(3)
    assert any(changed) and len(changed) == 2 * 2 * 3  # it did train, in both modes
    assert same(before, loop.snapshot())


def test_training_after_a_warm_up_is_training_without_one(tmp_path: Path) -> None:
    plain, warm = make_loop(tmp_path, TinyLoader()), make_loop(tmp_path, TinyLoader())
    warm.warm_up(2)
    for _ in range(4):
        assert torch.equal(plain.train_step(), warm.train_step())
    assert_equal(weights(plain.model), weights(warm.model))


def test_warm_up_is_charged_on_its_own_also_after_a_kill(tmp_path: Path) -> None:
    killed = make_loop(tmp_path, TinyLoader(stop_at=6))
    killed.restore()
    with pytest.raises(KeyboardInterrupt):
        killed.warm_up(3)
    loop = make_loop(tmp_path, TinyLoader(Timer(5000.0)))
    loop.restore()
    loop.warm_up(1)
    assert loop.clock.seconds("warm-up") == 6.0 + 4.0  # two batches a step
    assert loop.clock.seconds("train") == 0.0 and loop.clock.charged_s("train") == 10.0
    with loop.clock.phase("train", "train"):
        loop.run()
    assert loop.clock.charged_s("train") == 10.0 + 16.0
