"""The training loop on a GPU: resuming, and a warm-up that leaves no trace."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pgolf.checkpoint import Checkpoints
from pgolf.clock import Clock
from pgolf.distributed import World
from pgolf.events import EventLog
from pgolf.train.trainer import Trainer, _Loop
from tests.model.tiny import tiny_recurrent, weights
from tests.train.tiny_run import MODELS, SETTINGS, Timer, TinyLoader, fit, muon, same

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
GPU = World(device=torch.device("cuda"), precision="bf16")


class UntimedLoader(TinyLoader):
    """Batches are drawn ahead by a thread, which must not move the timer of the steps."""

    def next_batch(self, num_seqs: int, rank: int, world_size: int) -> np.ndarray:
        timer, self.timer = self.timer, Timer()
        try:
            return super().next_batch(num_seqs, rank, world_size)
        finally:
            self.timer = timer


def ticking(model: nn.Module, timer: Timer) -> nn.Module:
    """The model, which takes a second for each batch."""

    def tick(model: nn.Module, inputs: Any, loss: Tensor) -> None:
        timer.now_s += 1.0

    model.register_forward_hook(tick)
    return model


def fit_timed(folder: Path, model: nn.Module, stop_at: int | None = None) -> tuple:
    loader = UntimedLoader(stop_at=stop_at)
    settings = {"world": GPU, "compile_warmup_steps": 0}
    return fit(folder, model=ticking(model, loader.timer), loader=loader, **settings)


def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = fit_timed(tmp_path / "whole", MODELS["baseline"]().cuda())[0]
    with pytest.raises(KeyboardInterrupt):  # two batches a step; the checkpoint is of step 3
        fit_timed(tmp_path / "cut", MODELS["baseline"]().cuda(), stop_at=9)
    other = MODELS["baseline"]().cuda()
    torch.nn.init.zeros_(other.tok_emb.weight)
    cut, _, state, clock = fit_timed(tmp_path / "cut", other)
    assert state.step == 8 and clock.charged_s("train") == 8.0 + 5 * 2.0
    # Sums of gradients by atomic additions differ in their last bits from run to run.
    torch.testing.assert_close(weights(cut), weights(whole), atol=2e-2, rtol=2e-2)


def test_warm_up_puts_everything_back(tmp_path: Path) -> None:
    model = tiny_recurrent(embed_dtype="bf16").cuda()
    settings, loader = Trainer(**SETTINGS), TinyLoader()
    loop = _Loop(
        settings, model, muon(model, GPU), loader, GPU, Clock({}, now=loader.timer),
        EventLog(None), Checkpoints(tmp_path),
    )  # fmt: skip
    loop.train_step()
    before = copy.deepcopy(loop.snapshot())
    loop.warm_up(3)
    assert same(before, loop.snapshot())
