"""Passes replayed from CUDA graphs: the gradients of passes that are launched one by one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from pgolf.distributed import World
from pgolf.kernel import choice
from pgolf.kernel.choice import set_kernels
from pgolf.kernel.replay import EAGER_PASSES, ForwardBackward
from pgolf.model.recurrent import RecurrentGPT
from tests.kernel.test_model import model_of
from tests.model.tiny import random_ids

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
WORLD = World(device=torch.device("cuda", 0), precision="bf16")


@pytest.fixture(autouse=True)
def fused(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(choice, "_choice", choice.PLAIN)
    assert set_kernels("fused", WORLD.device, WORLD.precision) == "fused"
    yield


def batch(seed: int, seqs: int = 4) -> tuple[Tensor, Tensor]:
    tokens = random_ids(seqs, 17, seed=seed).to(WORLD.device)
    return tokens[:, :-1], tokens[:, 1:]


def expected(model: RecurrentGPT, batches: list[int], scale: float) -> dict[str, Tensor]:
    """Gradients summed over batches, without replay."""
    model.zero_grad()
    for seed in batches:
        with WORLD.autocast():
            loss = model(*batch(seed))
        (loss * scale).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_gradients_are_added_up_in_both_modes_and_after_they_were_dropped() -> None:
    model = model_of(False)
    run = ForwardBackward(model, WORLD.autocast)
    for step in range(2 * EAGER_PASSES + 4):
        on = step % 2 == 1
        model.recurrence(on)
        wanted = expected(model, [step, step + 50], 0.5)
        model.zero_grad(set_to_none=step % 4 < 2)
        for seed in (step, step + 50):
            loss = run(*batch(seed), scale=0.5)
            with torch.no_grad(), WORLD.autocast():
                torch.testing.assert_close(loss, model(*batch(seed)), rtol=1e-3, atol=1e-4)
        found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        for name, gradient in wanted.items():
            torch.testing.assert_close(found[name], gradient, rtol=2e-2, atol=1e-4, msg=name)
    assert len(run._captured) == 2  # both modes were replayed


def test_frozen_parameters_stay_without_a_gradient_and_weights_are_read_anew() -> None:
    model = model_of(True)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(("tok_emb.", "blocks.0.")))
    run = ForwardBackward(model, WORLD.autocast)
    for step in range(EAGER_PASSES + 4):
        run(*batch(step))
        wanted = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        found = expected(model, [step], 1.0)
        assert found.keys() == wanted.keys() and not any("tok_emb" in name for name in found)
        for name, gradient in wanted.items():
            torch.testing.assert_close(found[name], gradient, rtol=2e-2, atol=1e-4, msg=name)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.01 * torch.randn_like(parameter))
        model.zero_grad()
    assert len(run._captured) == 1


def test_other_shapes_are_passes_of_their_own() -> None:
    model = model_of(True)
    run = ForwardBackward(model, WORLD.autocast)
    for step in range(EAGER_PASSES + 2):
        for seqs in (4, 3):
            model.zero_grad()
            loss = run(*batch(step, seqs))
            with torch.no_grad(), WORLD.autocast():
                torch.testing.assert_close(loss, model(*batch(step, seqs)), rtol=1e-3, atol=1e-4)
    assert len(run._captured) == 2
