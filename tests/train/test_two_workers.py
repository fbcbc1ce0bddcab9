"""Two workers against one: losses, weights, resuming, failing together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pgolf.distributed import World
from pgolf.errors import RunFailed
from tests.model.tiny import tiny_recurrent, weights
from tests.train.tiny_run import (
    MODELS,
    TinyLoader,
    assert_equal,
    events_of,
    fit,
    losses,
    poisoned,
)
from tests.two_workers import run_in_two_workers


def train_in_world(world: World, folder: str) -> dict[str, Any]:
    """Both models; one of them interrupted and resumed; and one whose second rank fails."""
    result: dict[str, Any] = {}
    for name, make in MODELS.items():
        model = fit(Path(folder) / name, model=make(), world=world, num_steps=6)[0]
        result[name] = weights(model)
    cut, settings = Path(folder) / "cut", {"num_steps": 6, "checkpoint_every_s": 3.0}
    loader = TinyLoader(stop_at=5)
    try:
        fit(cut, model=MODELS["recurrent3"](), world=world, loader=loader, **settings)
    except KeyboardInterrupt:
        world.barrier()
    result["resumed"] = weights(fit(cut, model=tiny_recurrent(7), world=world, **settings)[0])
    model = poisoned(tiny_recurrent(), 1 if world.rank else 1000, float("nan"))
    try:
        fit(Path(folder) / "poisoned", model=model, world=world)
    except RunFailed as error:
        result["failure"] = str(error)
    return result


def test_two_workers_train_as_one(tmp_path: Path) -> None:
    for name in (*MODELS, "cut", "poisoned", *(f"{name} alone" for name in MODELS)):
        (tmp_path / name).mkdir()
    first, second = run_in_two_workers(train_in_world, str(tmp_path))
    for name, make in MODELS.items():
        alone = tmp_path / f"{name} alone"
        model = fit(alone, model=make(), num_steps=6)[0]
        expected, found = losses(alone), losses(tmp_path / name)
        assert len(found) == 6 and found == pytest.approx(expected, rel=1e-4)
        assert_equal(first[name], second[name])
        torch.testing.assert_close(first[name], weights(model), atol=1e-5, rtol=1e-4)
    assert_equal(first["resumed"], first["recurrent3"])
    assert_equal(second["resumed"], first["recurrent3"])
    assert [row["step"] for row in events_of(tmp_path / "cut", "resume")] == [3]
    assert "loss is nan at step 2" in first["failure"] and first["failure"] == second["failure"]
