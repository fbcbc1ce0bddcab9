"""result.json: parts that contradict each other are refused; eligibility follows the facts."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from pgolf.errors import UserError
from pgolf.result import (
    TRACK_ADAPTIVE,
    TRACK_FIXED,
    charge_budgets,
    judge_eligibility,
    validate_result,
)
from tests.report.fixtures import make_result

CLEAN: dict[str, Any] = {
    "ttt_eligible": True,
    "ttt_reason": "no test-time training",
    "adaptive": False,
    "total_bytes": 16_000_000,
    "budgets": [{"name": "train", "limit_s": 600.0, "charged_s": 600.0}],
    "calibration": "training text",
    "scored_bytes": 1000,
    "document_bytes": 1000,
    "scored_tokens": 299,
    "stream_tokens": 300,
}


def test_result_survives_json():
    result = make_result()
    validate_result(json.loads(json.dumps(result)))


def test_clean_run_is_eligible_on_the_fixed_track():
    verdict = judge_eligibility(**CLEAN)
    assert verdict.eligible and verdict.reasons == [] and verdict.track == TRACK_FIXED


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"ttt_eligible": False, "ttt_reason": "Trains before it scores."}, "Trains before"),
        ({"ttt_eligible": False, "ttt_reason": ""}, "test-time training"),
        ({"total_bytes": 16_000_001}, "1 over the limit of 16,000,000"),
        ({"budgets": [{"name": "train", "limit_s": 600.0, "charged_s": 600.5}]}, "600.5 s"),
        ({"calibration": "validation text"}, "calibrated on validation text"),
        ({"scored_bytes": 1170}, "1,170 bytes"),
        ({"scored_tokens": 290}, "290 of the 299"),
    ],
)
def test_each_broken_fact_alone_makes_the_run_not_eligible(facts, words):
    verdict = judge_eligibility(**{**CLEAN, **facts})
    assert not verdict.eligible
    assert len(verdict.reasons) == 1 and words in verdict.reasons[0]


def test_all_reasons_are_given_and_a_note_is_none():
    verdict = judge_eligibility(
        **{**CLEAN, "scored_bytes": 1, "calibration": "validation text", "adaptive": True},
        official_validation=False,
    )
    assert len(verdict.reasons) == 2 and verdict.track == TRACK_ADAPTIVE
    assert judge_eligibility(**CLEAN, official_validation=False).eligible


def test_what_the_method_says_is_noted_first():
    verdict = judge_eligibility(**CLEAN, official_validation=False, ttt_notes=["Stopped early."])
    assert verdict.eligible and len(verdict.notes) == 2 and verdict.notes[0] == "Stopped early."


def test_training_that_a_kill_lost_is_noted():
    verdict = judge_eligibility(**CLEAN, lost_s=12.34)
    assert verdict.eligible and "12.3 s after checkpoints are charged" in verdict.notes[0]
    assert judge_eligibility(**CLEAN, lost_s=0.4).notes == []


def test_limits_above_the_published_ones_are_noted():
    budgets = [{"name": "train", "limit_s": 1200.0, "charged_s": 900.0}]
    verdict = judge_eligibility(**{**CLEAN, "budgets": budgets}, limit_bytes=20_000_000)
    assert verdict.eligible and len(verdict.notes) == 2
    assert "from 600 to 1200 s" in verdict.notes[0]
    assert "from 16,000,000 to 20,000,000 bytes" in verdict.notes[1]
    assert judge_eligibility(**CLEAN, limit_bytes=15_000_000 + 1_000_000).notes == []


def test_budget_without_limit_is_never_over():
    budgets = [{"name": "diagnostic", "limit_s": None, "charged_s": 1e9}]
    assert judge_eligibility(**{**CLEAN, "budgets": budgets}).eligible


def test_every_second_is_charged_once():
    seconds = {"train": 10.0, "ttt": 5.5, "score": 2.0}
    owners = {"train": "train", "ttt": "train", "score": "diagnostic"}
    budgets = charge_budgets(seconds, owners, {"train": 600.0, "evaluate": 600.0})
    assert [(b["name"], b["limit_s"], b["charged_s"], b["what"]) for b in budgets] == [
        ("train", 600.0, 15.5, ["train", "ttt"]),
        ("evaluate", 600.0, 0.0, []),
        ("diagnostic", None, 2.0, ["score"]),
    ]
    assert sum(b["charged_s"] for b in budgets) == sum(seconds.values())


def broken(change: str) -> dict[str, Any]:
    result = copy.deepcopy(make_result())
    exec(change, {"r": result})
    return result


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("r['schema'] = 99", "schema 99"),
        ("del r['seed']", "seed is missing"),
        ("r['seed'] = '1'", "seed has the wrong type"),
        ("r['bpb']['final']['bpb'] *= 1.001", r"bpb\.final\.bpb is"),
        ("r['bpb']['final']['bytes'] = 0", "no token or no byte"),
        ("r['bpb']['ema']['nats'] = float('nan')", "expected a number"),
        ("del r['bpb']['adapted']", r"bpb\.adapted is missing"),
        ("r['artifact']['total_bytes'] -= 5", "is not model_bytes"),
        ("r['seconds']['secret'] = 9.0", r"seconds\.secret is charged to 0 budgets"),
        ("r['budgets'][0]['charged_s'] = 1.0", "its stages took"),
        ("r['budgets'][1]['what'].append('train')", r"its stages took"),
        ("r['eligibility']['eligible'] = True", "exactly when"),
    ],
)
def test_contradictions_are_refused(change, words):
    with pytest.raises(UserError, match=words):
        validate_result(broken(change))
