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


def test_each_stage_of_the_evaluation_says_that_it_begins(plain: Done, adaptive: Done) -> None:
    for run, expected in (
        (plain, ["load", "quantized", "final"]),
        (adaptive, ["load", "quantized", "control", "final", "adapt"]),
    ):
        begun = [event["stage"] for event in run.events("stage") if event["status"] == "start"]
        assert begun[-len(expected) :] == expected


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


@pytest.mark.parametrize(
    "options",
    [
        ("ttt=score_first_phased", "ttt.chunk_tokens=512", "ttt.lr=0.05"),
        ("ttt=slot_causal", "ttt.chunk_tokens=512", "ttt.fit_tokens=512", "ttt.l2=0.01"),
    ],
    ids=lambda options: options[0].removeprefix("ttt="),
)
def test_other_methods_gain_on_the_unadapted_artifact_and_stay_eligible(
    options: tuple[str, ...], workspace: Workspace, plain: Done
) -> None:
    run = workspace.launch(*options)
    result, unadapted = run.result, plain.result["bpb"]["final"]
    assert result["eligibility"]["eligible"] and result["eligibility"]["track"] == TRACK_ADAPTIVE
    assert result["control"]["nats"] == pytest.approx(unadapted["nats"], rel=1e-6)
    assert result["bpb"]["final"]["bpb"] < unadapted["bpb"] - 0.005
    assert run.stages("done") == {"pack"}
    two = workspace.answer("evaluate", run.folder, "hardware.num_workers=2", "ttt.compare=false")
    assert two["nats"] == pytest.approx(result["bpb"]["final"]["nats"], rel=1e-4)


def test_training_text_before_quantization_keeps_the_score_eligible(
    workspace: Workspace, plain: Done
) -> None:
    run = workspace.launch("ttt=prequant21", "ttt.source=train", "ttt.epochs=1")
    result, eligibility = run.result, run.result["eligibility"]
    validate_result(result)
    assert eligibility["eligible"] and eligibility["track"] == TRACK_FIXED
    assert "of training text (ttt.source=train)" in eligibility["notes"][0]
    assert result["bpb"]["ema"] == plain.result["bpb"]["ema"] == result["control"]
    assert result["bpb"]["adapted"] != result["bpb"]["ema"]


def test_adapters_for_each_document_gain_and_stay_eligible(
    workspace: Workspace, plain: Done
) -> None:
    run = workspace.launch("ttt=phased_lora", "ttt.lora_lr=0.003", "ttt.lr=0.05")
    result, eligibility = run.result, run.result["eligibility"]
    validate_result(result)
    assert eligibility["eligible"] and eligibility["track"] == TRACK_ADAPTIVE
    assert eligibility["notes"][0].startswith("Documents are scored longest first")
    final, control = result["bpb"]["final"], result["control"]
    assert final["bpb"] < control["bpb"] - 0.005
    unadapted = plain.result["bpb"]["final"]
    assert final["bytes"] == control["bytes"] == unadapted["bytes"]
    assert final["tokens"] == unadapted["tokens"]
    assert run.events("ttt_curve")[-1]["unadapted_bpb"] == pytest.approx(control["bpb"])
    assert run.stages("done") == {"pack"}
    two = workspace.answer("evaluate", run.folder, "hardware.num_workers=2", "ttt.compare=false")
    assert two["nats"] == pytest.approx(final["nats"], rel=1e-4)
    short = workspace.answer("evaluate", run.folder, "ttt.reserve_s=1000", "ttt.compare=false")
    assert short["nats"] == pytest.approx(control["nats"], rel=1e-6)
