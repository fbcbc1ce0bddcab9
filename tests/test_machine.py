"""What `pgolf doctor` says of a machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pgolf import machine
from pgolf.hardware import Devices
from tests.model.tiny import tiny_recurrent

CPU = Devices("cpu", 1, "fp32", "auto", None, 1)


def test_operations_of_a_token_are_counted() -> None:
    """By hand: layers of 24 wide, half the heads for keys and values, 5 layers of which 2 loop."""
    model = tiny_recurrent()
    layer = 24 * 24 * 2 + 2 * 24 * 12 + 2 * 24 * 96 + 2 * 24  # resid_mix has two dimensions, too
    passes = 1 / (0.35 / 5 + 0.65 / 9)  # by tokens
    expected = 6 * (passes * (layer + 16 * 24) + 61 * 24)
    assert machine.flops_a_token(model, 16) == pytest.approx(expected)


def test_the_published_run_takes_its_ten_minutes_on_eight_h100s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the 650 TFLOP/s of an H100's products, the estimate is near the published 588 s."""
    monkeypatch.setattr(machine, "product_flops", lambda *_: 650e12)
    cost = machine.full_cost(Devices("cpu", 8, "bf16", "auto", None, 1))
    assert 400 < cost["hours"] * 3600 < 700
    assert cost["memory_gb"] == 27.7 and cost["memory_gb_1_seq"] == 1.5


def test_products_are_measured() -> None:
    assert machine.product_flops(torch.device("cpu"), torch.float32, 64) > 1e6


def test_each_fault_has_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = machine.disks({"cache": tmp_path, "data": tmp_path / "not" / "there"})
    assert free["cache"] == free["data"] > 0
    monkeypatch.setattr(machine, "compiler", lambda: "no C compiler")
    low = {"cache": 1.0, "data": 2.0, "outputs": 0.1}
    (tmp_path / "file").write_text("")
    places = {"cache": tmp_path / "new", "data": tmp_path / "file" / "in"}
    closed = machine.unwritable(places)
    assert closed.pop("data") == tmp_path / "file" and "cache" not in closed
    closed = {"outputs": Path("/read/only")}
    found = " | ".join(machine.missing(CPU, low, closed, "it does not answer", account=False))
    for word in ("scale=nano", "hardware.compile=false", "PGOLF_CACHE", "PGOLF_DATA",
                 "data=embedded", "wandb login", "outputs cannot be written (/read/only)",
                 "out_dir=..."):  # fmt: skip
        assert word in found
    monkeypatch.setattr(machine, "compiler", lambda: "")
    plenty = {"cache": 99.0, "data": 99.0}
    assert len(machine.missing(CPU, plenty, {}, "", account=True)) == 1  # there is no GPU


def test_a_compiler_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.shutil, "which", lambda _: None)
    assert "C compiler" in machine.compiler()
    monkeypatch.setattr(machine.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert not machine.compiler()
