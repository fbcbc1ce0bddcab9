"""Hessians: equal to inputs collected by hand, over modules, loops and ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pgolf.distributed import World
from pgolf.kernel.linear import is_observed
from pgolf.quant.hessian import input_hessians
from tests.model.tiny import random_ids, tiny_baseline, tiny_recurrent
from tests.two_workers import run_in_two_workers

BATCHES = [random_ids(2, 16, seed=seed) for seed in range(4)]


def hessians(
    model: nn.Module, batches: list[Tensor], world: World | None = None
) -> dict[str, Tensor]:
    wanted = lambda name, weight: weight.numel() >= 300  # noqa: E731
    return input_hessians(model, batches, len(batches), world or World(), wanted)


class Products(TorchFunctionMode):
    """Inputs of every product, by the parameters whose rows its matrix holds."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.seen = model, dict[str, list[np.ndarray]]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.linear:
            x, matrix = args
            for name, weight in self.model.named_parameters():
                if weight.ndim == 2 and self.holds(matrix, weight.to(matrix.dtype)):
                    self.seen.setdefault(name, []).extend(x.flatten(0, -2).double().numpy())
        return func(*args, **(kwargs or {}))

    def holds(self, matrix: Tensor, weight: Tensor) -> bool:
        if matrix.size(1) != weight.size(1):
            return False
        starts = range(len(matrix) - len(weight) + 1)
        return any(torch.equal(matrix[at : at + len(weight)], weight) for at in starts)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("build", [tiny_recurrent, tiny_baseline])
def test_they_are_sums_of_outer_products_of_inputs(build: type, precision: str) -> None:
    world = World(precision=precision)
    found = hessians(build(), BATCHES, world)
    model = build()
    model.recurrence(True)
    products = Products(model)
    with torch.no_grad(), world.autocast(), products:
        for ids in BATCHES:
            model.logits(ids)
    seen = products.seen
    big = {n for n, p in model.named_parameters() if n in seen and p.numel() >= 300}
    assert set(found) == big and "tok_emb.weight" in big
    for name, hessian in found.items():
        x = np.stack(seen[name])
        assert hessian.dtype == torch.float32
        np.testing.assert_allclose(hessian.double().numpy(), x.T @ x, rtol=1e-5, atol=1e-4)


def test_looped_layers_count_as_often_as_they_run() -> None:
    # The trace of a normed input's Hessian is positions * width; layer 1 runs three times.
    model = tiny_recurrent(ln_scale=False)
    found = hessians(model, BATCHES)
    positions, width = 4 * 2 * 16, 24
    ratio = {
        i: float(found[f"blocks.{i}.attn.c_q.weight"].trace()) / positions / width
        for i in (0, 1, 4)
    }
    assert ratio == pytest.approx({0: 1.0, 1: 3.0, 4: 1.0}, rel=1e-3)


def test_nothing_stays_behind_on_the_model() -> None:
    model = tiny_recurrent()
    hessians(model, BATCHES[:1])
    assert not is_observed()
    assert all(p.grad is None for p in model.parameters())


def _in_worker(world: World) -> dict[str, Tensor]:
    torch.manual_seed(world.rank)
    return hessians(tiny_recurrent(), BATCHES[world.rank :: world.world_size], world)


@pytest.mark.slow
def test_two_ranks_find_what_one_finds() -> None:
    expected = hessians(tiny_recurrent(), BATCHES)
    first, second = run_in_two_workers(_in_worker)
    for name, hessian in expected.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], hessian, rtol=1e-5, atol=1e-4)
