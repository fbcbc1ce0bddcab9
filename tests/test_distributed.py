"""Reductions of two workers against Python sums; a world of one changes nothing."""

from __future__ import annotations

import pytest
import torch

from pgolf.distributed import World, join_world
from tests.two_workers import run_in_two_workers

KINDS = [((2,), torch.float32), ((2, 1), torch.float32), ((2,), torch.bfloat16)]


def reduce_all(world: World) -> dict[str, object]:
    mine = torch.tensor([1.0, 10.0]) * (world.rank + 1)
    several = [mine.clone(), mine.clone().view(2, 1), mine.bfloat16()]
    world.barrier()
    world.sum_all_(several)
    world.sum_all_([])
    return {
        "several": [tensor.flatten().tolist() for tensor in several],
        "kinds": [(tuple(tensor.shape), tensor.dtype) for tensor in several],
        "sum": world.sum_(mine.clone()).tolist(),
        "mean": world.mean_(mine.clone()).tolist(),
        "broadcast": float(world.broadcast_(torch.tensor(0.1 + world.rank, dtype=torch.float64))),
        "floats": world.sum_floats(0.1, 1e9 + world.rank),
        "objects": world.gather_objects({"of": world.rank, "longer": [1] * world.rank}),
        "main": world.is_main,
    }


def reduce_in_parts(world: World) -> dict[str, object]:
    """Four rows, two of each rank of two; started together, then waited for."""
    found: dict[str, object] = {}
    for dtype in (torch.float32, torch.bfloat16):
        whole = torch.arange(8.0).view(4, 2).to(dtype) * (1 + world.rank)
        gathered = torch.zeros(4, 2, dtype=dtype)
        world.share(gathered).fill_(5 + world.rank)
        summed = whole.clone()
        pending = [
            world.start_reduce_scatter_(whole),
            world.start_all_gather_(gathered),
            world.start_sum_(summed),
        ]
        for work in pending:
            work.wait()
        parts = (world.share(whole), gathered, summed)
        found[str(dtype)] = [part.flatten().tolist() for part in parts]
    return found


def test_reductions_in_parts_of_two_workers() -> None:
    for rank, result in enumerate(run_in_two_workers(reduce_in_parts)):
        sums = [3.0 * i for i in range(8)]
        for parts in result.values():
            assert parts == [sums[4 * rank : 4 * rank + 4], [5.0] * 4 + [6.0] * 4, sums]


def test_reductions_in_parts_of_one_change_nothing() -> None:
    for parts in reduce_in_parts(World()).values():
        assert parts == [[float(i) for i in range(8)], [5.0] * 8, [float(i) for i in range(8)]]


def test_reductions_of_two_workers() -> None:
    first, second = run_in_two_workers(reduce_all)
    for result in (first, second):
        assert result["sum"] == [3.0, 30.0] and result["mean"] == [1.5, 15.0]
        assert result["several"] == [[3.0, 30.0]] * 3 and result["kinds"] == KINDS
        assert result["broadcast"] == 0.1  # in float64, exactly that of rank 0
        assert result["floats"] == [0.1 + 0.1, 2e9 + 1]
        assert result["objects"] == [{"of": 0, "longer": []}, {"of": 1, "longer": [1]}]
    assert first["main"] and not second["main"]


def test_a_world_of_one_changes_nothing() -> None:
    result = reduce_all(World())
    assert result["sum"] == result["mean"] == [1.0, 10.0]
    assert result["several"] == [[1.0, 10.0]] * 3 and result["kinds"] == KINDS
    assert result["broadcast"] == 0.1 and result["floats"] == [0.1, 1e9]
    assert result["objects"] == [{"of": 0, "longer": []}]


def test_the_environment_decides_the_world(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with join_world("cpu", "fp32") as world:
        assert world == World()
    assert not torch.distributed.is_initialized()


def test_precision_decides_the_dtype_of_products() -> None:
    a = torch.ones(4, 4)
    with World(precision="fp32").autocast():
        assert (a @ a).dtype == torch.float32
    with World(precision="bf16").autocast():
        assert (a @ a).dtype == torch.bfloat16
