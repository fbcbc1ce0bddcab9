"""result.json: what a run ended with, in one versioned schema, checked before it is written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pgolf.errors import UserError

SCHEMA = 1
ARTIFACT_LIMIT_BYTES = 16_000_000
TOLD_FROM_S = 1.0  # of lost training
BUDGET_LIMIT_S = 600.0  # of training, and of evaluation
BYTES_WITHIN = "bytes_within"  # of provenance.imported: how far off bytes of its scores may be

# In the order in which a run makes them; `final` is the one that counts.
SCORE_NAMES = ("trained", "ema", "adapted", "quantized", "final")
TRACK_FIXED = "A fixed predictor"
TRACK_ADAPTIVE = "B adaptive"
# What `control` is, by the track of the score that it stands beside.
CONTROL_LABELS = {
    TRACK_FIXED: "averaged weights before test-time training; not from the artifact",
    TRACK_ADAPTIVE: "the artifact evaluated in the same way without adapting",
}
# Begins a reason or note that comes from the auditor, not from the run itself.
AUDIT = "Audit: "
FAIR_CALIBRATION = ("training text", "none")

# Two clocks round differently; more than this between a budget and its stages is a mistake.
SECONDS_TOLERANCE = 0.1

_KEYS: dict[str, type | tuple[type, ...]] = {
    "schema": int,
    "run_id": str,
    "name": str,
    "seed": int,
    "overrides": list,
    "bpb": dict,
    "control": (dict, type(None)),
    "artifact": dict,
    "seconds": dict,
    "reused": list,
    "budgets": list,
    "eligibility": dict,
    "provenance": dict,
    "config_hash": str,
}


@dataclass(frozen=True)
class Eligibility:
    """Whether a score may stand beside published ones.

    Args:
        eligible: no rule is known to be broken.
        track: "A fixed predictor" or "B adaptive" (issue #1017 of openai/parameter-golf).
        reasons: why not, one plain sentence each; empty when eligible.
        notes: what a reader has to know in either case, e.g. that the text is not FineWeb.
    """

    eligible: bool
    track: str
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def judge_eligibility(
    *,
    ttt_eligible: bool,
    ttt_reason: str,
    adaptive: bool,
    total_bytes: int,
    limit_bytes: int = ARTIFACT_LIMIT_BYTES,
    budgets: Sequence[Mapping[str, Any]],
    calibration: str,
    scored_bytes: int,
    document_bytes: int | None,
    scored_tokens: int,
    stream_tokens: int,
    official_validation: bool | None = None,
    ttt_notes: Sequence[str] = (),
    lost_s: float = 0.0,
) -> Eligibility:
    """Judge a run by facts that it measured itself; the auditor's probes are another matter.

    Args:
        ttt_eligible, ttt_reason: the verdict of the test-time training.
        adaptive: the predictor's state is built from validation tokens (track B).
        total_bytes, limit_bytes: size of the shipped folder and its limit.
        budgets: as in result.json, `{name, limit_s or None, charged_s, ...}`.
        calibration: text that the quantizer looked at: "training text", "none" or another name.
        scored_bytes: raw bytes that the scored tokens stand for.
        document_bytes: raw UTF-8 bytes of the validation documents; None where only their shards
            are there, so that the text cannot be counted.
        scored_tokens: tokens scored for the final score.
        stream_tokens: tokens of the validation stream; all but the first can be scored.
        official_validation: whether the text is the first 50,000 FineWeb documents; None: unknown.
        ttt_notes: what the test-time training has to say, one plain sentence each.
        lost_s: seconds of training that a kill made worthless, charged all the same.
    """
    reasons = [] if ttt_eligible else [ttt_reason or "The test-time training breaks a rule."]
    if total_bytes > limit_bytes:
        over = total_bytes - limit_bytes
        reasons.append(
            f"The artifact has {total_bytes:,} bytes, {over:,} over the limit of {limit_bytes:,}."
        )
    reasons += [_over(budget) for budget in budgets if _is_over(budget)]
    if calibration not in FAIR_CALIBRATION:
        reasons.append(f"The quantizer was calibrated on {calibration}, not on training text.")
    if document_bytes is not None and scored_bytes != document_bytes:
        reasons.append(
            f"The score counts {scored_bytes:,} bytes, the validation documents have "
            f"{document_bytes:,}."
        )
    if scored_tokens != stream_tokens - 1:
        reasons.append(
            f"{scored_tokens:,} of the {stream_tokens - 1:,} validation tokens were scored."
        )
    notes = list(ttt_notes)
    if lost_s >= TOLD_FROM_S:
        notes.append(
            f"Training was killed and continued: {lost_s:.1f} s after checkpoints are charged, and "
            "their steps were lost."
        )
    if official_validation is False:
        notes.append(
            "The validation text is not the first 50,000 FineWeb documents: compare this score "
            "with runs on the same text only."
        )
    notes += [
        f"The {budget['name']} budget was raised from {BUDGET_LIMIT_S:.0f} to "
        f"{budget['limit_s']:.0f} s: compare this score with runs of the same budgets only."
        for budget in budgets
        if (budget["limit_s"] or 0.0) > BUDGET_LIMIT_S
    ]
    if limit_bytes > ARTIFACT_LIMIT_BYTES:
        notes.append(
            f"The limit of the artifact was raised from {ARTIFACT_LIMIT_BYTES:,} to "
            f"{limit_bytes:,} bytes: compare this score with runs of the same limit only."
        )
    if document_bytes is None:
        notes.append(
            "Bytes are those of the published sidecar: the text itself is not there to be counted."
        )
    track = TRACK_ADAPTIVE if adaptive else TRACK_FIXED
    return Eligibility(not reasons, track, reasons, notes)


def _is_over(budget: Mapping[str, Any]) -> bool:
    return budget["limit_s"] is not None and budget["charged_s"] > budget["limit_s"]


def _over(budget: Mapping[str, Any]) -> str:
    return (
        f"The {budget['name']} budget of {budget['limit_s']:g} s is exceeded: "
        f"{budget['charged_s']:.1f} s were used."
    )


def build_result(
    *,
    run_id: str,
    name: str,
    seed: int,
    overrides: Sequence[str],
    scores: Mapping[str, Mapping[str, float] | None],
    artifact: Mapping[str, int],
    seconds: Mapping[str, float],
    budget_of: Mapping[str, str],
    limits_s: Mapping[str, float],
    eligibility: Eligibility,
    provenance: Mapping[str, Any],
    config_hash: str,
    control: Mapping[str, float] | None = None,
    reused: Sequence[str] = (),
) -> dict[str, Any]:
    """Put the parts together and check them; write the outcome with `pgolf.files.write_json`.

    Args:
        scores: by name of SCORE_NAMES, as `Score.as_dict()` gives them; missing ones become null.
        artifact: model_bytes, code_bytes and, where it differs from its default, limit.
        seconds: seconds of each stage, also of a reused one (what it took when it ran).
        budget_of: name of the budget that each stage is charged to.
        limits_s: limit of each budget that has one, in seconds.
        control: score without the test-time training; see CONTROL_LABELS.
        reused: stages that came out of the cache.

    Raises:
        UserError: the parts contradict each other (see `validate_result`).
    """
    model, code = int(artifact["model_bytes"]), int(artifact["code_bytes"])
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "run_id": run_id,
        "name": name,
        "seed": seed,
        "overrides": list(overrides),
        "bpb": {key: _copy(scores.get(key)) for key in SCORE_NAMES},
        "control": _copy(control),
        "artifact": {
            "model_bytes": model,
            "code_bytes": code,
            "total_bytes": int(artifact.get("total_bytes", model + code)),
            "limit": int(artifact.get("limit", ARTIFACT_LIMIT_BYTES)),
        },
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        "reused": list(reused),
        "budgets": charge_budgets(seconds, budget_of, limits_s),
        "eligibility": asdict(eligibility),
        "provenance": dict(provenance),
        "config_hash": config_hash,
    }
    validate_result(result)
    return result


def control_label(result: Mapping[str, Any]) -> str:
    """What the score beside the final one is, in words."""
    return CONTROL_LABELS[result["eligibility"]["track"]]


def charge_budgets(
    seconds: Mapping[str, float], budget_of: Mapping[str, str], limits_s: Mapping[str, float]
) -> list[dict[str, Any]]:
    """`[{name, limit_s, charged_s, what[]}]`: limited budgets first, then those without a limit."""
    names = list(dict.fromkeys([*limits_s, *(budget_of[stage] for stage in seconds)]))
    budgets = []
    for name in names:
        what = [stage for stage in seconds if budget_of[stage] == name]
        charged = round(sum(seconds[stage] for stage in what), 3)
        limit = limits_s.get(name)
        budgets.append({"name": name, "limit_s": limit, "charged_s": charged, "what": what})
    return budgets


def _copy(score: Mapping[str, float] | None) -> dict[str, float] | None:
    return None if score is None else dict(score)


def validate_result_of(folder: Path, result: Any) -> None:
    """Check what a run folder's result.json holds, as `validate_result` does.

    Raises:
        UserError: names the folder besides.
    """
    try:
        validate_result(result)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from error
    except (LookupError, TypeError, AttributeError) as error:
        path = folder / "result.json"
        raise UserError(f"{path} is no result: start the run's command again") from error


def validate_result(result: Any) -> None:
    """Check a result's schema and that its numbers agree with each other.

    Raises:
        UserError: names the key and what is wrong with it.
    """
    if not isinstance(result, dict):
        raise _wrong("the file", "expected an object")
    if result.get("schema") != SCHEMA:
        raise UserError(
            f"result.json has schema {result.get('schema')!r}, this pgolf reads {SCHEMA}: "
            "use the version of pgolf that wrote it"
        )
    for key, kind in _KEYS.items():
        if key not in result:
            raise _wrong(key, "is missing")
        if not isinstance(result[key], kind) or isinstance(result[key], bool):
            raise _wrong(key, f"has the wrong type, {type(result[key]).__name__}")
    for name in SCORE_NAMES:
        if name not in result["bpb"]:
            raise _wrong(f"bpb.{name}", "is missing (null when it was not measured)")
        _check_score(f"bpb.{name}", result["bpb"][name])
    _check_score("control", result["control"])
    _check_artifact(result["artifact"])
    _check_budgets(result["budgets"], result["seconds"])
    _check_eligibility(result["eligibility"])
    if not all(isinstance(override, str) for override in result["overrides"]):
        raise _wrong("overrides", "expected strings")
    layers = result["provenance"].get("sandbox")
    if layers is not None and not {"filesystem", "network"} <= set(layers):
        raise _wrong("provenance.sandbox", "has no filesystem or no network")


def _check_score(where: str, score: Any) -> None:
    if score is None:
        return
    if not isinstance(score, dict):
        raise _wrong(where, "expected an object or null")
    for key in ("bpb", "nats", "tokens", "bytes"):
        value = score.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0:
            raise _wrong(f"{where}.{key}", f"expected a number, got {value!r}")
    if not score["bytes"] or not score["tokens"]:
        raise _wrong(where, "no token or no byte was scored")
    bpb = score["nats"] / math.log(2.0) / score["bytes"]
    if not math.isclose(bpb, score["bpb"], rel_tol=1e-9):
        raise _wrong(f"{where}.bpb", f"is {score['bpb']}, but nats / ln 2 / bytes is {bpb}")


def _check_artifact(artifact: dict[str, Any]) -> None:
    for key in ("model_bytes", "code_bytes", "total_bytes", "limit"):
        if not isinstance(artifact.get(key), int):
            raise _wrong(f"artifact.{key}", f"expected whole bytes, got {artifact.get(key)!r}")
    if artifact["total_bytes"] != artifact["model_bytes"] + artifact["code_bytes"]:
        raise _wrong("artifact.total_bytes", "is not model_bytes + code_bytes")
    if artifact["limit"] <= 0:
        raise _wrong("artifact.limit", f"expected a limit of bytes, got {artifact['limit']}")


def _check_budgets(budgets: list[Any], seconds: dict[str, Any]) -> None:
    charged: list[str] = []
    for index, budget in enumerate(budgets):
        missing = {"name", "limit_s", "charged_s", "what"} - set(budget)
        if missing:
            raise _wrong(f"budgets[{index}]", f"has no {', '.join(sorted(missing))}")
        where = f"budgets[{index}] ({budget['name']})"
        unknown = [stage for stage in budget["what"] if stage not in seconds]
        if unknown:
            raise _wrong(where, f"names stages without seconds: {', '.join(unknown)}")
        total = sum(seconds[stage] for stage in budget["what"])
        if abs(total - budget["charged_s"]) > SECONDS_TOLERANCE:
            raise _wrong(where, f"charges {budget['charged_s']} s, its stages took {total:.3f} s")
        charged += budget["what"]
    for stage in seconds:
        if charged.count(stage) != 1:
            raise _wrong(
                f"seconds.{stage}", f"is charged to {charged.count(stage)} budgets, not to one"
            )


def _check_eligibility(eligibility: dict[str, Any]) -> None:
    for key, kind in (("eligible", bool), ("track", str), ("reasons", list), ("notes", list)):
        if not isinstance(eligibility.get(key), kind):
            raise _wrong(f"eligibility.{key}", f"expected {kind.__name__}")
    if eligibility["eligible"] == bool(eligibility["reasons"]):
        raise _wrong("eligibility.reasons", "reasons are given exactly when a run is not eligible")


def _wrong(where: str, what: str) -> UserError:
    return UserError(f"result.json: {where} {what}")
