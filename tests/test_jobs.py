"""What jobs are told, and which settings change which stage's key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pgolf.config import compose
from pgolf.hardware import Devices
from pgolf.jobs import evaluate_job, produce_job, produce_keys

ONE = Devices("cpu", 1, "fp32", "auto", False, 1)


def keys(*overrides: str) -> dict[str, str]:
    return produce_keys(compose(["debug=cpu", *overrides]), ONE, "data")


def jobs(*overrides: str) -> tuple[dict[str, Any], dict[str, Any]]:
    config, here = compose(["debug=cpu", *overrides]), Path("here")
    produce = produce_job(
        config, ONE, run_folder=here, cache=here, data=here, data_key="data",
        tokenizer_fingerprint="",
    )  # fmt: skip
    evaluate = evaluate_job(
        config, ONE, run_folder=here, cache=here, artifact=here, validation=here,
        tokenizer_fingerprint=None, bos_id=1, output=here,
    )  # fmt: skip
    return produce, evaluate


def test_what_adapts_while_scoring_changes_no_stage_before() -> None:
    score_first, none = keys("ttt=score_first"), keys("ttt=none")
    assert keys("ttt=score_first", "ttt.lr=0.5", "ttt.chunk_tokens=64") == score_first
    # Only the code that is shipped differs from a run without.
    assert {name for name in none if none[name] != score_first[name]} == {"pack"}


def test_what_adapts_before_quantization_changes_the_stages_after_it() -> None:
    first = keys("ttt=prequant21")
    for change in ("ttt.epochs=1", "ttt.source=train", "ttt.sync=step"):
        second = keys("ttt=prequant21", change)
        changed = {name for name in first if first[name] != second[name]}
        assert changed == {"ttt", "score_adapted", "pack"}, change


@pytest.mark.parametrize(
    ("group", "stages"),
    [
        ("optim", {"train", "ttt", "pack", "score_trained", "score_ema", "score_adapted"}),
        ("quant", {"pack"}),
    ],
)
def test_an_edited_class_outside_pgolf_is_another_stage(
    group: str, stages: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    config = compose(["debug=cpu", "ttt=none"])
    config[group]["_target_"] = f"my_{group}.Mine"
    (tmp_path / f"my_{group}.py").write_text("class Mine: pass\n")
    first = produce_keys(config, ONE, "data")
    (tmp_path / f"my_{group}.py").write_text("class Mine: x = 0\n")
    second = produce_keys(config, ONE, "data")
    assert {name for name in first if first[name] != second[name]} == stages


@pytest.mark.parametrize(
    ("option", "before", "while_scoring"),
    [
        ("none", "pgolf.ttt.none.NoTTT", None),
        ("prequant21", "pgolf.ttt.prequant.PreQuantTTT", None),
        ("score_first", "pgolf.ttt.none.NoTTT", "pgolf.ttt.score_first.ScoreFirstTTT"),
        (
            "score_first_phased",
            "pgolf.ttt.none.NoTTT",
            "pgolf.ttt.score_first_phased.ScoreFirstPhasedTTT",
        ),
        ("slot_causal", "pgolf.ttt.none.NoTTT", "pgolf.ttt.slot_causal.SlotCausalTTT"),
        ("phased_lora", "pgolf.ttt.none.NoTTT", "pgolf.ttt.phased_lora.PhasedLoraTTT"),
    ],
)
def test_each_method_runs_in_one_job(option: str, before: str, while_scoring: str | None) -> None:
    produce, evaluate = jobs(f"ttt={option}")
    assert produce["ttt"]["_target_"] == before
    assert (evaluate["ttt"] and evaluate["ttt"]["_target_"]) == while_scoring
