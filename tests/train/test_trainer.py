"""The loop: budgets, the recurrence switch, accumulation, failures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pgolf.checkpoint import Checkpoints
from pgolf.distributed import World
from pgolf.errors import RunFailed
from tests.model.tiny import tiny_recurrent, weights
from tests.train.tiny_run import (
    SEQ_LEN,
    VOCAB,
    events_of,
    fit,
    poisoned,
)


def test_the_loss_falls_and_the_last_step_is_logged(tmp_path: Path) -> None:
    _, _, state, _ = fit(tmp_path, num_steps=22, log_every=10, checkpoint_every_s=1e9)
    rows = events_of(tmp_path)
    assert [row["step"] for row in rows] == [1, 10, 20, 22]
    assert rows[-1]["train/loss"] < 0.8 * rows[0]["train/loss"]
    assert rows[-1]["tokens"] == 22 * 4 * SEQ_LEN == state.tokens_seen
    assert state.last_loss == rows[-1]["train/loss"] and state.step == 22
    assert rows[0]["train/lr_scale"] == 1.0
    # The scale that the last step was taken with, not that of a step after the end.
    assert rows[-1]["train/lr_scale"] == pytest.approx((1 / 22) / 0.72)


class Recorder(nn.Module):
    """A bigram table that notes whether recurrence was on at each forward pass."""

    document_bos = None

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(VOCAB, VOCAB))
        self.on, self.seen = False, list[bool]()
        self.loss_scale = 1.0

    def recurrence(self, on: bool) -> None:
        self.on = on

    def forward(self, ids_BT: Tensor, targets_BT: Tensor, borders: Tensor | None = None) -> Tensor:
        self.seen.append(self.on)
        logits_BTV = self.table[ids_BT]
        loss = nn.functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten())
        return loss * self.loss_scale


class PlainSGD:
    def __init__(self, model: nn.Module, world: World) -> None:
        self.parameters = list(model.parameters())
        self.scales: list[float] = []

    @torch.no_grad()
    def step(self, lr_scale: float, step: int) -> None:
        self.scales.append(lr_scale)
        for parameter in self.parameters:
            assert parameter.grad is not None
            parameter -= lr_scale * parameter.grad
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


ONE_PASS = {"micro_batch_seqs": 4, "optimizer": PlainSGD}  # a step is one batch and one second


@pytest.mark.parametrize(
    "budget",
    [
        {"num_steps": 20, "max_seconds": None},
        {"num_steps": None, "max_seconds": 20.0},
        {"num_steps": 1000, "max_seconds": 20.0},
        {"num_steps": 20, "max_seconds": 1000.0},
    ],
    ids=str,
)
def test_recurrence_is_on_from_its_part_of_the_first_budget(
    tmp_path: Path, budget: dict[str, Any]
) -> None:
    model = Recorder()
    _, _, state, _ = fit(tmp_path, model=model, recurrence_start_frac=0.35, **ONE_PASS, **budget)
    assert model.seen == [False] * 7 + [True] * 13
    assert state.step == 20 and state.elapsed_s == 20.0 and model.on


def test_recurrence_is_on_afterwards_in_any_case(tmp_path: Path) -> None:
    model = Recorder()
    fit(tmp_path, model=model, recurrence_start_frac=2.0, **ONE_PASS)
    assert not any(model.seen) and model.on


def test_time_ends_training_at_the_first_step_beyond(tmp_path: Path) -> None:
    budget = {"num_steps": None, "max_seconds": 6.5}
    _, _, state, clock = fit(tmp_path, model=Recorder(), **ONE_PASS, **budget)
    assert state.step == 7 and clock.charged_s("train") == 7.0


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    whole = fit(tmp_path, model=Recorder(), micro_batch_seqs=4, optimizer=PlainSGD)[0]
    for name, size in (("one", 1), ("two", 2), ("more than there are", 64)):
        (tmp_path / name).mkdir()
        parts = fit(tmp_path / name, model=Recorder(), micro_batch_seqs=size, optimizer=PlainSGD)[0]
        torch.testing.assert_close(weights(parts), weights(whole), atol=1e-6, rtol=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_step_and_remedy(tmp_path: Path, value: float) -> None:
    model = poisoned(tiny_recurrent(), 4, value)
    with pytest.raises(RunFailed, match=r"loss is (nan|inf) at step 3: lower .*optim.matrix_lr"):
        fit(tmp_path, model=model)


def test_weights_that_are_not_finite_are_never_checkpointed(tmp_path: Path) -> None:
    model = poisoned(tiny_recurrent(), 4, float("nan"))
    silent = {"log_every": 1000, "checkpoint_every_s": 1.0}
    with pytest.raises(RunFailed, match="at step 3"):
        fit(tmp_path, model=model, **silent)
    saved = Checkpoints(tmp_path).load(World())
    assert saved is not None and saved["state"]["step"] == 2
    assert all(value.isfinite().all() for value in saved["model"].values())
