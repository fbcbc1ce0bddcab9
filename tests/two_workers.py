"""Run a function in two gloo workers on this machine and collect what each returns."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from pgolf.distributed import World

WORLD_SIZE = 2


def run_in_two_workers(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """`function(world, *arguments)` in each worker; module-level functions only.

    Returns:
        what each rank returned, by rank (anything that torch.save takes).
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_work, args=(port, folder, function, arguments), nprocs=WORLD_SIZE)
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(WORLD_SIZE)]


def _work(
    rank: int, port: int, folder: str, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=WORLD_SIZE,
        timeout=timedelta(seconds=60),
    )
    try:
        result = function(World(rank=rank, world_size=WORLD_SIZE, local_rank=rank), *arguments)
        torch.save(result, Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
    # Like pgolf.worker: gloo's threads abort a process once in a while when Python takes it down.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
