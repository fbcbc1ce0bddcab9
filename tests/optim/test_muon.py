"""Newton-Schulz and Muon's update, against singular values and float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pgolf.distributed import World
from pgolf.optim.muon import Muon, newton_schulz, normalize_rows


def matrices(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 16, 48), (2, 48, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_singular_values_come_near_one(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    out = newton_schulz(matrices(*shape), 5, dtype)
    assert out.dtype == dtype and out.shape == shape
    values = torch.linalg.svdvals(out.float())
    assert values.min() > 0.3 and values.max() < 1.3
    assert values.mean() == pytest.approx(0.95, abs=0.2)


def test_singular_vectors_stay() -> None:
    G = matrices(16, 24).double()
    U, S, Vh = torch.linalg.svd(G, full_matrices=False)
    scale = S / (S.norm() + 1e-7)
    for _ in range(5):  # the scalar iteration, on each singular value
        scale = 3.4445 * scale - 4.7750 * scale**3 + 2.0315 * scale**5
    expected = U @ torch.diag(scale) @ Vh
    torch.testing.assert_close(newton_schulz(G[None], 5, torch.float64)[0], expected)


def test_a_batch_equals_its_matrices_one_by_one() -> None:
    G = matrices(4, 16, 40)
    alone = torch.stack([newton_schulz(g, 5, torch.bfloat16) for g in G])
    together = newton_schulz(G, 5, torch.bfloat16)
    assert (together.float() - alone.float()).norm() / alone.float().norm() < 5e-3


def test_rows_have_norm_one_and_a_zero_row_stays_zero() -> None:
    G = matrices(2, 5, 7)
    G[0, 2] = 0
    norms = normalize_rows(G).norm(dim=-1)
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
    muon = Muon(named, World(), ns_steps=5, ns_dtype="fp32", weight_decay=0.1)
    grads = [
        [matrices(*shape, seed=10 * i + t) for t in range(3)] for i, shape in enumerate(shapes)
    ]
    for t in range(3):
        for i, parameter in enumerate(parameters):
            parameter.grad = grads[i][t].clone()
        muon.step(lr=0.05, momentum=0.9)
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
        muon = Muon([("a", parameter)], World(), ns_steps=5, ns_dtype="fp32", weight_decay=0.0)
        parameter.grad = scale * matrices(6, 9)
        muon.step(lr=1.0, momentum=0.9)
        updates.append(parameter.detach())
    torch.testing.assert_close(updates[0], updates[1], atol=1e-4, rtol=0)
