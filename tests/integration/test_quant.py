"""Runs with other quantizers than the debug run's."""

from __future__ import annotations

import pytest

from tests.integration.command import Done, Workspace, du

pytestmark = pytest.mark.slow
LIMIT = 100_000  # of which the code takes most


def test_a_search_ends_just_under_the_limit_and_tells_losses(
    workspace: Workspace, plain: Done
) -> None:
    done = workspace.launch(
        "ttt=none", "quant=mixed_search", "codec=ans", f"quant.limit_bytes={LIMIT}"
    )
    size = done.result["artifact"]["total_bytes"]
    assert size == du(done.folder / "artifact") and 0.99 * LIMIT < size <= LIMIT
    assert "train" in done.stages("reused")
    scores = {name: score["bpb"] for name, score in done.result["bpb"].items()}
    assert scores["quantized"] == pytest.approx(scores["ema"], abs=0.1)
    rows = done.events("tensors")[-1]["rows"]
    losses = {row["name"]: row["loss"] for row in rows if row["loss"] is not None}
    assert losses and all(loss >= 0 for loss in losses.values()) and any(losses.values())
    shown = workspace.answer("inspect", done.folder)["tensors"]
    assert {row["name"]: row["loss"] for row in shown} == {row["name"]: row["loss"] for row in rows}
    assert "loss" in workspace.pgolf("inspect", done.folder).stdout
    assert "loss" not in workspace.pgolf("inspect", done.folder / "artifact").stdout
    assert ">loss<" in (done.folder / "report.html").read_text()
    assert ">loss<" not in (plain.folder / "report.html").read_text()


def test_scales_of_groups_go_through_calibration_artifact_and_evaluation(
    workspace: Workspace, plain: Done
) -> None:
    rules = "[{pattern: '*.weight', bits: 5, grid: absmax, group_columns: 16}]"
    done = workspace.launch("ttt=none", "quant=custom", f"quant.rules={rules}", "codec=ans")
    assert "train" in done.stages("reused")
    scores = {name: score["bpb"] for name, score in done.result["bpb"].items()}
    assert scores["quantized"] == pytest.approx(scores["ema"], abs=0.1)
    shown = workspace.answer("inspect", done.folder)["tensors"]
    kinds = {row["kind"] for row in shown if row["bits"] == 5}
    assert kinds == {"codes, groups of 16"}
    assert {row["kind"] for row in shown if row["bits"] != 5} <= {"fp16"}
    refused = workspace.launch("ttt=none", "quant=custom",
                               f"quant.rules={rules.replace('absmax', 'uniform')}")  # fmt: skip
    assert refused.code == 2 and "quant.rules[0].group_columns=16" in refused.text
