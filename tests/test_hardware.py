"""What the machine has against what is asked for."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from pgolf import hardware
from pgolf.errors import UserError
from pgolf.hardware import Devices, Hardware, usable_cpus


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretend that there are so many GPUs and cores."""

    def make(*, gpus: int = 0, cores: int = 16) -> None:
        monkeypatch.setattr(hardware, "count_gpus", lambda: gpus)
        monkeypatch.setattr(hardware, "usable_cpus", lambda: cores)

    return make


@pytest.mark.parametrize(
    ("gpus", "asked", "expected"),
    [
        (0, {}, Devices("cpu", 1, "fp32", "auto", None, 16)),
        (4, {}, Devices("cuda", 4, "bf16", "auto", None, 4)),
        (4, {"device": "cpu"}, Devices("cpu", 1, "fp32", "auto", None, 16)),
        (0, {"num_workers": 3}, Devices("cpu", 3, "fp32", "auto", None, 5)),
        (4, {"num_workers": 2}, Devices("cuda", 2, "bf16", "auto", None, 8)),
        (4, {"precision": "fp32", "compile": False}, Devices("cuda", 4, "fp32", "auto", False, 4)),
        (0, {"precision": "bf16", "compile": True}, Devices("cpu", 1, "bf16", "auto", True, 16)),
        (1, {"device": "cuda", "attention": "math"}, Devices("cuda", 1, "bf16", "math", None, 16)),
    ],
)
def test_settled_devices(machine: Any, gpus: int, asked: Any, expected: Devices) -> None:
    machine(gpus=gpus)
    assert Hardware(**asked).settle() == expected


@pytest.mark.parametrize(
    ("gpus", "asked", "message"),
    [
        (0, {"device": "cuda"}, "no GPU is found: use hardware=cpu"),
        (1, {"device": "cuda", "num_workers": 2}, "hardware.num_workers=1"),
        (0, {"num_workers": 0}, "hardware.num_workers=0: expected 1 or more"),
        (2, {"num_workers": -1}, "hardware.num_workers=-1: expected 1 or more"),
        (0, {"attention": "cudnn"}, "hardware.attention=cudnn needs a GPU"),
        (1, {"device": "cpu", "kernels": "fused"}, "needs a GPU and bf16, this run is on cpu"),
        (1, {"precision": "fp32", "kernels": "fused"}, "on cuda in fp32: use hardware.kernels"),
    ],
)
def test_what_is_not_there_is_the_users_error(
    machine: Any, gpus: int, asked: Any, message: str
) -> None:
    machine(gpus=gpus)
    with pytest.raises(UserError, match=message):
        Hardware(**asked).settle()


def test_more_workers_than_cores_have_one_thread_each(machine: Any) -> None:
    machine(cores=2)
    assert Hardware(device="cpu", num_workers=5).settle().threads == 1


def test_devices_are_plain_data(machine: Any) -> None:
    machine()
    devices = Hardware().settle()
    assert Devices(**devices.as_dict()) == devices


def test_usable_cpus_on_linux_and_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert usable_cpus() == os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus() == 1


def test_counting_gpus_needs_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(hardware.ctypes, "CDLL", no_driver)
    assert hardware.count_gpus() == 0
