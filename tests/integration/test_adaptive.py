"""Score-first test-time training through launch.py: from the artifact, on the shipped code."""

from __future__ import annotations

import zipfile

import pytest

from pgolf.result import TRACK_ADAPTIVE, TRACK_FIXED, validate_result
from tests.integration.command import Done, Workspace

pytestmark = pytest.mark.slow
OPTIONS = ("ttt=score_first", "ttt.chunk_tokens=512", "ttt.lr=0.05")


@pytest.fixture(scope="module")
def adaptive(workspace: Workspace, plain: Done) -> Done:
    """The debug run with score-first test-time training; produce stages come from the cache."""
    return workspace.launch(*OPTIONS)


def test_it_gains_on_the_unadapted_artifact_and_stays_eligible(plain: Done, adaptive: Done) -> None:
    result = adaptive.result
    validate_result(result)
    assert result["eligibility"]["eligible"] and result["eligibility"]["track"] == TRACK_ADAPTIVE
    assert plain.result["eligibility"]["track"] == TRACK_FIXED
    # The artifact is that of the run without, and so is its score without adapting.
    unadapted = plain.result["bpb"]["final"]
    assert result["control"]["nats"] == pytest.approx(unadapted["nats"], rel=1e-6)
    assert result["bpb"]["quantized"]["nats"] == plain.result["bpb"]["quantized"]["nats"]
    assert result["bpb"]["final"]["bpb"] < unadapted["bpb"] - 0.005
    assert result["bpb"]["final"]["bytes"] == unadapted["bytes"]
    assert "without adapting)" in " ".join(adaptive.text.split())


def test_its_stages_are_those_of_the_run_without(plain: Done, adaptive: Done) -> None:
    assert adaptive.stages("done") == {"pack"}  # more code is shipped
    budgets = {budget["name"]: budget["what"] for budget in adaptive.result["budgets"]}
    assert "final" in budgets["evaluate"] and "control" in budgets["diagnostic"]
    with zipfile.ZipFile(adaptive.folder / "artifact" / "code.zip") as archive:
        assert "pgolf/ttt/score_first.py" in archive.namelist()
    with zipfile.ZipFile(plain.folder / "artifact" / "code.zip") as archive:
        assert not [name for name in archive.namelist() if name.startswith("pgolf/ttt/")]


def test_the_curve_ends_at_the_scores(adaptive: Done) -> None:
    rows, result = adaptive.events("ttt_curve"), adaptive.result
    last = rows[-1]
    assert len(rows) == -(-result["bpb"]["final"]["tokens"] // 512)
    assert last["tokens"] == result["bpb"]["final"]["tokens"]
    assert last["bpb"] == pytest.approx(result["bpb"]["final"]["bpb"])
    assert last["unadapted_bpb"] == pytest.approx(result["control"]["bpb"])
    assert rows[0]["bpb"] == rows[0]["unadapted_bpb"]
    assert "Gain of adapting" in (adaptive.folder / "report.html").read_text()


def test_two_workers_and_a_second_evaluation_give_the_same_score(
    workspace: Workspace, adaptive: Done
) -> None:
    final = adaptive.result["bpb"]["final"]
    again = workspace.answer("evaluate", adaptive.folder, "hardware.num_workers=2")
    assert again["nats"] == pytest.approx(final["nats"], rel=1e-4)
    other = workspace.answer("evaluate", adaptive.folder, "ttt.epochs=0", "ttt.compare=false")
    assert other["nats"] == pytest.approx(adaptive.result["control"]["nats"], rel=1e-9)


def test_a_budget_that_is_short_gives_a_complete_score(workspace: Workspace) -> None:
    run = workspace.launch(*OPTIONS, "ttt.reserve_s=1000")
    result = run.result
    assert result["eligibility"]["notes"][0].startswith("Adapted on 0 of ")
    assert result["eligibility"]["track"] == TRACK_FIXED and result["control"] is None
    assert result["bpb"]["final"]["nats"] == run.events("score")[-2]["nats"]
    assert run.stages("done") == set()
