"""Profiles of steps: what is written, and that the training is that of a run without."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch

from pgolf.train.profile import kind_of, profiled, table
from tests.model.tiny import weights
from tests.train.tiny_run import assert_equal, fit


def test_a_profiled_run_trains_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    settings = {"num_steps": 12, "recurrence_start_frac": 0.5}
    plain = fit(tmp_path / "plain", **settings)[0]
    model = fit(tmp_path, profile=True, **settings)[0]
    assert_equal(weights(model), weights(plain))
    for name in ("profile_recurrence_off", "profile_recurrence_on"):
        assert "aten::" in (tmp_path / f"{name}.txt").read_text()
        with gzip.open(tmp_path / f"{name}.json.gz") as trace:
            assert json.load(trace)["traceEvents"]
    rows = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    found = [row for row in rows if row["event"] == "profile"]
    assert [(row["recurrence"], row["step"]) for row in found] == [(False, 3), (True, 9)]
    assert all(row["wall_ms"] > 0 for row in found)


def test_times_add_up() -> None:
    found = profiled(lambda: torch.randn(200, 200) @ torch.randn(200, 200), torch.device("cpu"))
    assert found["result"].shape == (200, 200)
    assert any(row["name"] == "aten::mm" for row in found["kernels"])
    assert sum(found["kinds"].values()) + found["idle_ms"] >= found["wall_ms"] * 0.99
    assert "idle" in table(found)


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("nvjet_sm90_tst_256x128_64x4_1x2_h_bz_coopA_NNT", "matmul"),
        ("_product_kernel", "matmul"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_bprop_wgmma_f16", "attention"),
        ("void cudnn::fusion::fmha_reduce_head<true>(void const*)", "attention"),
        ("ncclDevKernel_AllReduce_Sum_f32_RING_LL", "communication"),
        ("Memcpy HtoD (Pinned -> Device)", "copy"),
        ("_backward", "memory-bound"),
    ],
)
def test_kinds(kernel: str, kind: str) -> None:
    assert kind_of(kernel) == kind
