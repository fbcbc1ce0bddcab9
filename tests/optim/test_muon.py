"""Muon's update against the recipe in float64."""

from __future__ import annotations

import torch
from torch import nn

from pgolf.distributed import World
from pgolf.optim.muon import Muon, normalize_rows
from pgolf.optim.newton_schulz import coefficient_schedule

FP32 = {"coefficients": coefficient_schedule("quintic", 5), "ns_dtype": torch.float32}


def matrices(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def one_step(muon: Muon, lr: float, momentum: float, scale: float = 1.0) -> None:
    muon.collect()
    muon.step(lr, momentum, torch.tensor(scale))


def test_rows_have_norm_one_and_a_zero_row_stays_zero() -> None:
    G = matrices(2, 5, 7)
    G[0, 2] = 0
    norms = normalize_rows(G, torch.float32).norm(dim=-1)
    assert norms[0, 2] == 0
    norms[0, 2] = 1
    torch.testing.assert_close(norms, torch.ones(2, 5))


def _slow_step(p, grads, *, lr, momentum, weight_decay):
    """The recipe for one matrix in float64, from a list of gradients."""
    buffer = torch.zeros_like(p)
    for g in grads:
        buffer = momentum * buffer + g
        update = g + momentum * buffer
        update = update / update.norm(dim=1, keepdim=True)
        X = update / update.norm()
        if X.size(0) > X.size(1):
            X = X.T
        for _ in range(5):
            S = X @ X.T
            X = 3.4445 * X + (-4.7750 * S + 2.0315 * S @ S) @ X
        if p.size(0) > p.size(1):
            X = X.T
        X = X * max(1.0, p.size(0) / p.size(1)) ** 0.5
        p = p * (1 - lr * weight_decay) - lr * X
    return p


def test_steps_equal_the_recipe_in_float64() -> None:
    shapes = [(12, 20), (20, 12), (12, 20), (8, 8)]
    start = [matrices(*shape, seed=i) for i, shape in enumerate(shapes)]
    parameters = [nn.Parameter(p.clone()) for p in start]
    named = [(f"blocks.{i}.weight", p) for i, p in enumerate(parameters)]
    muon = Muon(named, World(), **FP32, weight_decay=0.1)
    grads = [
        [matrices(*shape, seed=10 * i + t) for t in range(3)] for i, shape in enumerate(shapes)
    ]
    for t in range(3):
        for i, parameter in enumerate(parameters):
            parameter.grad = grads[i][t].clone()
        one_step(muon, 0.05, 0.9)
    for i, parameter in enumerate(parameters):
        expected = _slow_step(
            start[i].double(), [g.double() for g in grads[i]],
            lr=0.05, momentum=0.9, weight_decay=0.1,
        )  # fmt: skip
        torch.testing.assert_close(parameter.detach().double(), expected, atol=2e-5, rtol=0)


def test_the_scale_of_the_gradient_does_not_matter() -> None:
    updates = []
    for scale in (1e-3, 1e3):
        parameter = nn.Parameter(torch.zeros(6, 9))
        muon = Muon([("a", parameter)], World(), **FP32, weight_decay=0.0)
        parameter.grad = scale * matrices(6, 9)
        one_step(muon, 1.0, 0.9)
        updates.append(parameter.detach())
    torch.testing.assert_close(updates[0], updates[1], atol=1e-4, rtol=0)


def test_a_missing_gradient_is_zero_and_old_ones_are_forgotten() -> None:
    absent, zero = ([nn.Parameter(matrices(4, 6, seed=i)) for i in range(2)] for _ in range(2))
    for parameters in (absent, zero):
        muon = Muon([("a", parameters[0]), ("b", parameters[1])], World(), **FP32, weight_decay=0.1)
        for parameter in parameters:
            parameter.grad = matrices(4, 6, seed=9)
        one_step(muon, 0.1, 0.9)
        parameters[1].grad = None if parameters is absent else torch.zeros(4, 6)
        one_step(muon, 0.1, 0.9)
    assert all(torch.equal(a, b) for a, b in zip(absent, zero, strict=True))


def test_the_scale_acts_on_the_gradient_before_the_momentum() -> None:
    results = []
    for scale in (0.25, 1.0):
        parameter = nn.Parameter(torch.zeros(6, 9))
        muon = Muon([("a", parameter)], World(), **FP32, weight_decay=0.0)
        parameter.grad = matrices(6, 9, seed=1)
        one_step(muon, 1.0, 0.9)
        parameter.grad = matrices(6, 9, seed=2) / scale
        muon.collect()
        torch.testing.assert_close(muon.square_norm(), parameter.grad.square().sum())
        muon.step(1.0, 0.9, torch.tensor(scale))
        results.append(parameter.detach())
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=0)
