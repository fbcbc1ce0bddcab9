"""The training loop on a GPU: resuming, and a warm-up that leaves no trace."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from pgolf.checkpoint import Checkpoints
from pgolf.clock import Clock
from pgolf.distributed import World
from pgolf.events import EventLog
from pgolf.train.trainer import Trainer, _Loop
from tests.model.tiny import tiny_recurrent, weights
from tests.train.tiny_run import MODELS, SETTINGS, TinyLoader, fit, muon, same

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
GPU = World(device=torch.device("cuda"), precision="bf16")


def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    settings = {"world": GPU, "compile_warmup_steps": 0}
    whole = fit(tmp_path / "whole", model=MODELS["baseline"]().cuda(), **settings)[0]
    with pytest.raises(KeyboardInterrupt):  # two batches a step; the checkpoint is of step 3
        loader = TinyLoader(stop_at=9)
        fit(tmp_path / "cut", model=MODELS["baseline"]().cuda(), loader=loader, **settings)
    other = MODELS["baseline"]().cuda()
    torch.nn.init.zeros_(other.tok_emb.weight)
    cut, _, state, clock = fit(tmp_path / "cut", model=other, **settings)
    assert state.step == 8 and clock.charged_s("train") == 8.0 + 5 * 2.0
    # Sums of gradients by atomic additions differ in their last bits from run to run.
    torch.testing.assert_close(weights(cut), weights(whole), atol=2e-2, rtol=2e-2)


def test_warm_up_puts_everything_back(tmp_path: Path) -> None:
    model = tiny_recurrent(embed_dtype="bf16").cuda()
    settings, loader = Trainer(**SETTINGS), TinyLoader()
    loop = _Loop(
        settings, model, model, muon(model, GPU), loader, GPU, Clock({}, now=loader.timer),
        EventLog(None), Checkpoints(tmp_path),
    )  # fmt: skip
    loop.train_step()
    before = copy.deepcopy(loop.snapshot())
    loop.warm_up(3)
    assert same(before, loop.snapshot())
