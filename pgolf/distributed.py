"""The world of workers: ranks, devices, precision, reductions; all that asks torch.distributed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")
TIMEOUT = timedelta(minutes=30)
CPU = torch.device("cpu")
# Before torch 2.13 they have other names, which give a warning since.
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


class Pending(Protocol):
    """A reduction under way. On a GPU `wait` holds up its later kernels, not the caller."""

    def wait(self) -> object: ...


class _Done:
    def wait(self) -> None:
        pass


DONE = _Done()


@dataclass(frozen=True)
class World:
    """This worker's place among all workers.

    Args:
        rank, world_size, local_rank: as torchrun numbers them.
        device: where tensors of this rank live.
        precision: "bf16" runs matrix products under autocast; "fp32" changes nothing.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    device: torch.device = CPU
    precision: str = "fp32"

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Autocast to bf16 where the precision says so, else no change."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def device_names(self) -> list[str]:
        """Names of this host's GPUs that workers use; empty on the CPU."""
        if self.device.type != "cuda":
            return []
        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]

    def barrier(self) -> None:
        if self.world_size > 1:
            dist.barrier()

    def sum_(self, tensor: Tensor) -> Tensor:
        """Sum over the ranks, in place; returns the tensor."""
        if self.world_size > 1:
            dist.all_reduce(tensor, op=dist.ReduceOp.SUM)
        return tensor

    def sum_all_(self, tensors: Sequence[Tensor]) -> None:
        """Sum each tensor over the ranks, in place, in one reduction for all.

        Tensors of several dtypes are summed in the widest of them.
        """
        if self.world_size == 1 or not tensors:
            return
        flat = self.sum_(torch.cat([tensor.flatten() for tensor in tensors]))
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def start_sum_(self, tensor: Tensor) -> Pending:
        """Begin to sum over the ranks, in place."""
        return dist.all_reduce(tensor, async_op=True) if self.world_size > 1 else DONE

    def share(self, tensor: Tensor) -> Tensor:
        """This rank's slice of the first dimension, which the number of ranks divides: a view."""
        return tensor.unflatten(0, (self.world_size, -1))[self.rank]

    def start_reduce_scatter_(self, tensor: Tensor) -> Pending:
        """Begin to sum over the ranks, in place, this rank's share alone; the rest is undefined."""
        if self.world_size == 1:
            return DONE
        return _reduce_scatter(self.share(tensor), tensor, async_op=True)

    def start_all_gather_(self, tensor: Tensor) -> Pending:
        """Begin to fill in the other ranks' shares, in place."""
        if self.world_size == 1:
            return DONE
        return _all_gather(tensor, self.share(tensor), async_op=True)

    def mean_(self, tensor: Tensor) -> Tensor:
        """Mean over the ranks, in place; returns the tensor."""
        return self.sum_(tensor).div_(self.world_size)

    def broadcast_(self, tensor: Tensor, source: int = 0) -> Tensor:
        if self.world_size > 1:
            dist.broadcast(tensor, src=source)
        return tensor

    def gather_objects(self, value: T) -> list[T]:
        """What every rank gives, by rank, on each of them; pickled on the way."""
        if self.world_size == 1:
            return [value]
        gathered: list[Any] = [None] * self.world_size
        dist.all_gather_object(gathered, value)
        return gathered

    def sum_floats(self, *values: float) -> list[float]:
        """Sum Python numbers over the ranks in float64."""
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        return [float(v) for v in self.sum_(total).tolist()]


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on a device; on its way to a GPU nobody waits for it."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@contextlib.contextmanager
def join_world(device_type: str, precision: str) -> Iterator[World]:
    """Join the process group that torchrun's environment describes, and leave it at the end."""
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local_rank) if device_type == "cuda" else CPU
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world_size > 1:
        # Tensors on the CPU go through gloo, so that agreeing on a number waits for no GPU.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=TIMEOUT)
    try:
        yield World(rank, world_size, local_rank, device, precision)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
