"""Newton-Schulz against singular value decompositions; its coefficients against a derivation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.optim.newton_schulz import (
    LIMIT,
    OPTIMAL_QUINTICS,
    QUINTIC,
    Schedule,
    coefficient_schedule,
    newton_schulz,
)

SCHEDULES: list[Schedule] = ["quintic", "polar_express"]
QUINTIC_5 = coefficient_schedule("quintic", 5)
Triple = tuple[float, float, float]


def matrices(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 16, 48), (2, 48, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", SCHEDULES)
def test_singular_values_come_near_one(
    shape: tuple[int, ...], dtype: torch.dtype, kind: Schedule
) -> None:
    out = newton_schulz(matrices(*shape), coefficient_schedule(kind, 5), dtype)
    assert out.dtype == dtype and out.shape == shape and out.is_contiguous()
    values = torch.linalg.svdvals(out.float())
    assert values.min() > 0.3 and values.max() < 1.3
    assert values.mean() == pytest.approx(0.95, abs=0.2)


@settings(max_examples=20, deadline=None)
@given(
    rows=st.integers(1, 24),
    columns=st.integers(1, 24),
    kind=st.sampled_from(SCHEDULES),
    num_steps=st.integers(0, 8),
)
def test_singular_vectors_stay(rows: int, columns: int, kind: Schedule, num_steps: int) -> None:
    G = matrices(rows, columns).double()
    U, S, Vh = torch.linalg.svd(G, full_matrices=False)
    scale = S / (S.norm() + 1e-7)
    coefficients = coefficient_schedule(kind, num_steps)
    for a, b, c in coefficients:  # the scalar iteration, on each singular value
        scale = a * scale + b * scale**3 + c * scale**5
    expected = U @ torch.diag(scale) @ Vh
    torch.testing.assert_close(newton_schulz(G[None], coefficients, torch.float64)[0], expected)


def test_a_batch_equals_its_matrices_one_by_one() -> None:
    G = matrices(4, 16, 40)
    alone = torch.cat([newton_schulz(g[None], QUINTIC_5, torch.bfloat16) for g in G])
    together = newton_schulz(G, QUINTIC_5, torch.bfloat16)
    assert (together.float() - alone.float()).norm() / alone.float().norm() < 5e-3


def test_a_zero_matrix_stays_zero() -> None:
    G = matrices(2, 4, 6)
    G[1] = 0
    out = newton_schulz(G, QUINTIC_5, torch.bfloat16)
    assert not out[1].any() and out[0].isfinite().all()


def distance_from_one(kind: Schedule, dtype: torch.dtype) -> torch.Tensor:
    """|singular value - 1| after 5 steps, over [1e-3, 1]; the largest is 1 at the start."""
    values = torch.logspace(-3, 0, 64, dtype=torch.float64)
    U, V = (torch.linalg.qr(matrices(64, 64, seed=s).double())[0] for s in (1, 2))
    G = U @ torch.diag(values) @ V.T
    # The iteration divides by the Frobenius norm: one value of nearly all the norm hides it.
    coefficients = coefficient_schedule(kind, 5)
    X = newton_schulz((G / values.norm())[None], coefficients, dtype)[0].double()
    return (torch.linalg.svdvals(X) - 1).abs()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_polar_express_comes_nearer_to_one(dtype: torch.dtype) -> None:
    best, constant = (distance_from_one(kind, dtype) for kind in ("polar_express", "quintic"))
    assert best.mean() < 0.6 * constant.mean() and best.max() < constant.max()


def test_polar_express_on_the_interval_it_is_made_for() -> None:
    errors = {}
    for kind in SCHEDULES:
        x = np.geomspace(1e-3, 1, 2000)
        for a, b, c in coefficient_schedule(kind, 5):
            x = a * x + b * x**3 + c * x**5
        errors[kind] = np.abs(x - 1)
    assert errors["polar_express"].max() < 0.16 < 0.5 < errors["quintic"].max()
    assert errors["polar_express"].mean() < 0.5 * errors["quintic"].mean()


def best_quintic(low: float, high: float) -> Triple:
    """a*x + b*x^3 + c*x^5 nearest to 1 on [low, high], by Remez' exchange of four points."""
    points = np.linspace(low, high, 4)
    for _ in range(60):
        columns = [points, points**3, points**5, [1, -1, 1, -1]]
        a, b, c, _ = np.linalg.solve(np.stack(columns, axis=1), np.ones(4))
        points[1:3] = np.sqrt(np.sort(np.roots([5 * c, 3 * b, a]).real))
    return float(a), float(b), float(c)


def test_the_table_is_what_the_papers_algorithm_gives() -> None:
    low, high, cushion = 1e-3, 1.0, 0.02407327424182761
    for expected in OPTIMAL_QUINTICS[:6]:
        a, b, c = best_quintic(max(low, cushion * high), high)

        def value(x: float, triple: Triple = (a, b, c)) -> float:
            return sum(k * x**p for k, p in zip(triple, (1, 3, 5), strict=True))

        centre = 2 / (value(low) + value(high))  # the cushion may have left the lower end behind
        assert expected == pytest.approx((a * centre, b * centre, c * centre), rel=1e-9)
        low = centre * value(low)
        high = 2 - low
    assert OPTIMAL_QUINTICS[6] == pytest.approx(LIMIT, rel=2e-6)


def test_schedules() -> None:
    assert list(QUINTIC_5) == [QUINTIC] * 5
    for num_steps in (0, 1, 5, 12):
        assert len(coefficient_schedule("polar_express", num_steps)) == num_steps
    assert coefficient_schedule("polar_express", 9)[-1] == LIMIT
    a, b, c = coefficient_schedule("polar_express", 1)[0]
    # p(x / 1.01): also a singular value of 1.01 is still in the interval.
    assert a * 1.01 + b * 1.01**3 + c * 1.01**5 == pytest.approx(sum(OPTIMAL_QUINTICS[0]))
