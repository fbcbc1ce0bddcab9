"""One command from text to score: its numbers agree with each other and with the files."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path

import pytest
import zstandard

from pgolf.jobs import PRODUCE_STAGES
from pgolf.provenance import config_hash
from pgolf.result import validate_result
from tests.integration.command import Done, Workspace, du

pytestmark = pytest.mark.slow


def documents(workspace: Workspace, run: Done, split: str) -> list[str]:
    """The documents of a split, read without pgolf."""
    num_bytes = run.result["bpb"]["final"]["bytes"]
    where = ("documents", "documents.json", "document_bytes", "validation")
    path = workspace.entry(*where, value=num_bytes) / f"{split}.jsonl.zst"
    with open(path, "rb") as file:
        text = zstandard.ZstdDecompressor().stream_reader(file).read().decode("utf-8")
    return [json.loads(line)["text"] for line in text.splitlines()]


def test_the_result_is_valid_and_its_scores_follow_from_nats_and_bytes(first: Done) -> None:
    validate_result(first.result)
    for score in first.result["bpb"].values():
        assert score["bpb"] == pytest.approx(score["nats"] / math.log(2) / score["bytes"], 1e-12)
    scores = {name: score["bpb"] for name, score in first.result["bpb"].items()}
    assert scores["adapted"] < scores["ema"]  # it learned from the text that it is scored on
    assert scores["quantized"] == pytest.approx(scores["adapted"], abs=0.1)
    assert scores["final"] < 8.0 and f"{scores['final']:.4f} bits per byte" in first.stdout


def test_scored_bytes_are_those_of_the_documents(workspace: Workspace, first: Done) -> None:
    texts = documents(workspace, first, "validation")
    num_bytes = sum(len(text.encode("utf-8")) for text in texts)
    for score in first.result["bpb"].values():
        assert score["bytes"] == num_bytes
        assert score["tokens"] == num_bytes + len(texts) - 1  # BOS each; the first is not scored
    assert not set(texts) & set(documents(workspace, first, "training"))
    rows = [json.loads(line)["text"] for line in workspace.text.read_text("utf-8").splitlines()]
    assert sorted(texts + documents(workspace, first, "training")) == sorted(set(rows))


def test_the_artifact_is_what_du_says(first: Done) -> None:
    artifact, folder = first.result["artifact"], first.folder / "artifact"
    assert artifact["total_bytes"] == du(folder)
    assert artifact["model_bytes"] == du(folder / "model.pgolf")
    assert {path.name for path in folder.iterdir()} == {"model.pgolf", "code.zip"}
    with zipfile.ZipFile(folder / "code.zip") as archive:
        assert archive.testzip() is None


def test_the_score_came_from_the_shipped_code_without_training_text(first: Done) -> None:
    log = (first.folder / "log.txt").read_text()
    assert f"evaluate: code from {first.folder / 'artifact' / 'code.zip'}/pgolf" in log
    # Its job is removed when it has ended; what it was given is tested in test_evaluate.py.
    assert not (first.folder / "work").exists()


def test_events_hold_the_numbers_of_the_result(first: Done) -> None:
    events = {event["name"]: event for event in first.events("score")}
    assert list(events) == list(first.result["bpb"])
    for name, score in first.result["bpb"].items():
        assert {key: events[name][key] for key in score if key != "seconds"} == {
            key: value for key, value in score.items() if key != "seconds"
        }
    seconds = {e["stage"]: e["seconds"] for e in first.events("stage") if e["status"] == "done"}
    assert seconds == {name: first.result["seconds"][name] for name in seconds}
    assert set(seconds) == {"documents", "tokens", *PRODUCE_STAGES}
    assert [event["step"] for event in first.events("train_step")] == [1, 5, 10, 12]
    assert len(first.events("ttt_epoch")) == 21


def test_every_second_is_charged_to_a_budget(first: Done) -> None:
    """From the launcher's start to the result nearly all time lies in some budget."""
    charged = sum(budget["charged_s"] for budget in first.result["budgets"])
    begin = first.events("meter")[0]["started"]
    wall = (first.folder / "result.json").stat().st_mtime - begin
    print(f"charged {charged:.2f} s of {wall:.2f} s")
    assert -0.5 < wall - charged < 3.0


def test_the_run_folder_says_what_ran(workspace: Workspace, first: Done) -> None:
    assert f"data.path={workspace.text}" in (first.folder / "overrides.txt").read_text()
    assert first.result["provenance"] == json.loads((first.folder / "provenance.json").read_text())
    assert first.result["provenance"]["attention"]
    assert first.result["run_id"] == first.folder.name
    for name in ("config.yaml", "report.html", "log.txt", "events.jsonl"):
        assert (first.folder / name).stat().st_size > 0
        assert name == "config.yaml" or name == "events.jsonl" or name in first.stdout


def test_the_same_command_again_reuses_every_stage(workspace: Workspace, first: Done) -> None:
    again = workspace.launch()
    assert again.stages("reused") == {"documents", "tokens", *PRODUCE_STAGES}
    assert again.stages("done") == set() and again.losses() == []
    for name, score in first.result["bpb"].items():
        assert again.result["bpb"][name]["nats"] == score["nats"]
    for name in ("model.pgolf", "code.zip"):
        assert (again.folder / "artifact" / name).read_bytes() == (
            first.folder / "artifact" / name
        ).read_bytes()
    assert again.result["config_hash"] == first.result["config_hash"]
    # What a stage took is charged whether it ran now or before.
    for name in PRODUCE_STAGES:
        assert again.result["seconds"][name] == first.result["seconds"][name]


def test_training_on_validation_text_is_not_eligible_and_has_a_control(first: Done) -> None:
    verdict = first.result["eligibility"]
    assert not verdict["eligible"] and "condition 3" in " ".join(verdict["reasons"])
    assert first.result["control"] == first.result["bpb"]["ema"]
    assert "not eligible" in first.stdout and "For comparison" in first.stdout


def test_without_test_time_training_a_run_is_eligible(first: Done, plain: Done) -> None:
    assert plain.result["eligibility"] == {**plain.result["eligibility"], "eligible": True}
    assert plain.result["control"] is None
    assert "train" in plain.stages("reused") and {"ttt", "pack"} <= plain.stages("done")
    scores = plain.result["bpb"]
    assert scores["adapted"]["nats"] == scores["ema"]["nats"] == first.result["bpb"]["ema"]["nats"]


def test_no_epochs_are_no_training_on_the_text(workspace: Workspace, plain: Done) -> None:
    done = workspace.launch("ttt.epochs=0")
    assert done.result["eligibility"]["eligible"] and done.result["control"] is None
    assert "train" in done.stages("reused") and done.events("ttt_epoch") == []
    assert done.result["bpb"]["final"]["nats"] == plain.result["bpb"]["final"]["nats"]


def test_other_ends_of_the_chain_share_the_training(workspace: Workspace, plain: Done) -> None:
    done = workspace.launch("ttt=none", "quant=none", "codec=lzma", "eval=standard")
    assert done.stages("done") == {"pack"}
    scores, before = done.result["bpb"], plain.result["bpb"]
    assert scores["final"]["nats"] == scores["quantized"]["nats"]  # the same evaluation twice
    # fp16 weights cost next to nothing, and more bytes than codes of six bits.
    assert scores["final"]["bpb"] == pytest.approx(scores["adapted"]["bpb"], abs=2e-3)
    assert done.result["artifact"]["model_bytes"] > plain.result["artifact"]["model_bytes"]
    assert scores["ema"]["nats"] == before["ema"]["nats"]


def test_rounding_to_nearest_needs_no_calibration(workspace: Workspace, plain: Done) -> None:
    done = workspace.launch("ttt=none", "quant=rtn")
    assert done.stages("done") == {"pack"} and "calibrate" not in done.stderr
    assert done.result["bpb"]["final"]["bpb"] == pytest.approx(
        plain.result["bpb"]["final"]["bpb"], abs=0.1
    )


def test_another_model_and_optimizer_run_through(workspace: Workspace, plain: Done) -> None:
    done = workspace.launch("ttt=none", "model=baseline", "optim=adamw", "tokenizer=sp",
                            "scale.vocab_size=320")  # fmt: skip
    assert done.stages("reused") == {"documents"} and done.result["eligibility"] is not None
    assert done.losses()[-1] < done.losses()[0]
    assert done.result["name"] == "baseline-nano"
    config = (done.folder / "config.yaml").read_text()
    assert "BaselineGPT" in config and "AdamWOptimizer" in config


def test_the_hash_of_a_configuration_is_blind_to_seeds_and_folders() -> None:
    config = {"seed": 1, "name": "a", "out_dir": "x", "tracking": {}, "train": {"num_steps": 3}}
    changed = {**config, "seed": 2, "name": "b", "out_dir": "y", "tracking": {"_target_": "z"}}
    assert config_hash(config) == config_hash(changed)
    assert config_hash(config) != config_hash({**config, "train": {"num_steps": 4}})


def test_nothing_is_written_outside_the_three_places(workspace: Workspace, plain: Done) -> None:
    names = {path.name for path in Path(workspace.folder).iterdir()}
    assert all(name in ("cache", "text.jsonl") or name.startswith("outputs") for name in names)
