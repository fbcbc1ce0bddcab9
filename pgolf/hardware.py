"""Where a run computes: device, number of workers, precision, threads. Finds what is there."""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pgolf.errors import UserError


@dataclass(frozen=True)
class Devices:
    """The settled answer, but for what a worker sees when it has its device."""

    device: str
    num_workers: int
    precision: str
    attention: str
    compile: bool | None
    threads: int
    kernels: str = "auto"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Hardware:
    """What a user asks for.

    Args:
        device: "auto" takes CUDA where a GPU is found.
        num_workers: worker processes; None takes one for each GPU, or one on the CPU.
        precision: matrix products in "bf16" (autocast) or "fp32"; "auto" is bf16 on CUDA.
        attention: backend of pgolf.kernel.attention; "auto" takes the best that is installed.
        compile: torch.compile the model's blocks; None compiles on CUDA where kernels are plain.
        kernels: "fused" Triton kernels, "plain" torch, or what runs here (pgolf.kernel.choice).
    """

    def __init__(
        self,
        *,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        num_workers: int | None = None,
        precision: Literal["auto", "bf16", "fp32"] = "auto",
        attention: str = "auto",
        compile: bool | None = None,
        kernels: Literal["auto", "fused", "plain"] = "auto",
    ) -> None:
        self.device, self.num_workers, self.precision = device, num_workers, precision
        self.attention, self.compile, self.kernels = attention, compile, kernels

    def settle(self) -> Devices:
        """Look at the machine and decide.

        Raises:
            UserError: CUDA or more GPUs are asked for than there are, or no worker, or on the CPU
                what needs a GPU.
        """
        num_gpus = count_gpus() if self.device != "cpu" else 0
        device = self.device if self.device != "auto" else ("cuda" if num_gpus else "cpu")
        if device == "cuda" and num_gpus == 0:
            raise UserError("hardware asks for CUDA but no GPU is found: use hardware=cpu or auto")
        if self.num_workers is not None and self.num_workers < 1:
            raise UserError(f"hardware.num_workers={self.num_workers}: expected 1 or more, or null")
        num_workers = self.num_workers or (num_gpus if device == "cuda" else 1)
        if device == "cuda" and num_workers > num_gpus:
            raise UserError(
                f"hardware.num_workers={num_workers} but this host has {num_gpus} GPU(s): "
                f"use hardware.num_workers={num_gpus} or hardware=auto"
            )
        precision = self.precision
        if precision == "auto":
            precision = "bf16" if device == "cuda" else "fp32"
        self._check_gpu_only(device, precision)
        threads = max(1, usable_cpus() // num_workers)
        return Devices(
            device, num_workers, precision, self.attention, self.compile, threads, self.kernels
        )

    def _check_gpu_only(self, device: str, precision: str) -> None:
        """What a worker would refuse, as far as it is known without torch."""
        if device == "cpu" and self.attention not in ("auto", "math"):
            raise UserError(
                f"hardware.attention={self.attention} needs a GPU, and this run is on the CPU: use "
                "hardware.attention=auto"
            )
        if self.kernels == "fused" and (device == "cpu" or precision != "bf16"):
            raise UserError(
                f"hardware.kernels=fused needs a GPU and bf16, this run is on {device} in "
                f"{precision}: use hardware.kernels=auto"
            )


def count_gpus() -> int:
    """Number of CUDA devices that the driver shows (CUDA_VISIBLE_DEVICES counts), without torch."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def usable_cpus() -> int:
    """Number of cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
