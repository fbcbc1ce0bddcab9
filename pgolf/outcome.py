"""A finished run's numbers, gathered from its stages and its evaluation into one result."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgolf.data.manifest import Manifest
from pgolf.jobs import PRODUCE_STAGES, Config
from pgolf.provenance import config_hash
from pgolf.result import AUDIT, Eligibility, build_result, charge_budgets, judge_eligibility
from pgolf.stage import Stage

# Budgets of what happens outside the produce job's stages. Starting the workers is charged, too,
# and so is the launcher: from its process's start, and between the jobs.
OTHER_STAGES = {
    "documents": "data",
    "tokens": "data",
    "warm_up": "train",
    "start_produce": "train",
    "launch_produce": "train",
    "load": "evaluate",
    "wait": "diagnostic",
    "quantized": "diagnostic",
    "control": "diagnostic",
    "final": "evaluate",
    "start_evaluate": "evaluate",
    "launch_evaluate": "evaluate",
}
BUDGET_OF = {**PRODUCE_STAGES, **OTHER_STAGES}
# Until an audit says otherwise.
NOT_AUDITED = f"{AUDIT}none was made; `pgolf audit RUN` makes one."
# Scores that the evaluate job may make, each with its seconds.
EVALUATE_SCORES = ("quantized", "control", "final")


@dataclass
class Outcome:
    """What a run left behind, before it is judged.

    Args:
        config, overrides: what was asked for.
        folder: the run folder; its `artifact/` is measured here.
        manifest: of the data that was used.
        stages: information of each stage by name, as the cache holds it, `seconds` included.
        reused: names of the stages that came out of the cache.
        scores: what the evaluate job measured: `load_s`, `quantized`, `final`; where test-time
            training adapted while scoring, what it says under `ttt`, and perhaps `control`.
        seconds: of everything outside the produce stages, by name.
        provenance: what ran.
    """

    config: Config
    overrides: list[str]
    folder: Path
    manifest: Manifest
    stages: dict[str, dict[str, Any]]
    reused: list[str]
    scores: dict[str, Any]
    seconds: dict[str, float]
    provenance: dict[str, Any]

    def result(self) -> dict[str, Any]:
        """The content of result.json, checked."""
        config, limits = self.config, self.config["limits"]
        seconds = self.all_seconds()
        limits_s = {"train": float(limits["train_s"]), "evaluate": float(limits["evaluate_s"])}
        artifact = measure_artifact(self.folder / "artifact", int(limits["artifact_bytes"]))
        verdict = self.judge(charge_budgets(seconds, BUDGET_OF, limits_s), artifact)
        verdict.notes.append(NOT_AUDITED)
        return build_result(
            run_id=self.folder.name,
            name=config["name"],
            seed=config["seed"],
            overrides=self.overrides,
            scores=self.all_scores(),
            artifact=artifact,
            seconds=seconds,
            budget_of=BUDGET_OF,
            limits_s=limits_s,
            eligibility=verdict,
            provenance=self.provenance,
            config_hash=config_hash(config),
            control=self.control(),
            reused=self.reused,
        )

    def control(self) -> dict[str, Any] | None:
        """What the score would be without the test-time training, as far as it was measured."""
        ttt = self.stages["ttt"]
        if ttt["per_epoch"] or not ttt["eligible"]:
            before: dict[str, Any] = self.stages["score_ema"]["score"]
            return before
        adapted = self.scores.get("ttt", {}).get("adaptive", False)
        return self.scores.get("control") if adapted else None

    def all_scores(self) -> dict[str, Any]:
        stages = (self.stages[f"score_{name}"] for name in ("trained", "ema", "adapted"))
        scores = {info["name"]: info["score"] for info in stages}
        return {**scores, "quantized": self.scores["quantized"], "final": self.scores["final"]}

    def all_seconds(self) -> dict[str, float]:
        seconds = {name: float(self.stages[name]["seconds"]) for name in PRODUCE_STAGES}
        warm_up = float(self.stages["train"].get("warm_up_s", 0.0))
        made = (name for name in EVALUATE_SCORES if name in self.scores)
        evaluate = {name: self.scores[name]["seconds"] for name in made}
        evaluate["load"] = self.scores["load_s"]
        everything = {**self.seconds, **seconds, "warm_up": warm_up, **evaluate}
        return {name: everything[name] for name in BUDGET_OF if everything.get(name)}

    def judge(self, budgets: list[dict[str, Any]], artifact: dict[str, int]) -> Eligibility:
        # What adapts while scoring leaves the produce job's stage of that name with nothing to do.
        final, adapted = self.scores["final"], self.scores.get("ttt", self.stages["ttt"])
        validation = self.manifest.validation
        return judge_eligibility(
            ttt_eligible=adapted["eligible"],
            ttt_reason=adapted["reason"],
            adaptive=adapted.get("adaptive", False),
            ttt_notes=adapted.get("notes", ()),
            lost_s=float(self.stages["train"].get("lost_s", 0.0)),
            total_bytes=artifact["total_bytes"],
            limit_bytes=artifact["limit"],
            budgets=budgets,
            calibration=self.stages["pack"]["calibration"],
            scored_bytes=final["bytes"],
            document_bytes=validation.document_bytes,
            scored_tokens=final["tokens"],
            stream_tokens=validation.num_tokens,
            official_validation=self.manifest.official_validation,
        )


def judged(result: dict[str, Any], audit: dict[str, Any]) -> dict[str, Any]:
    """The result with the auditor's verdict: what a probe refuses is not eligible.

    Args:
        audit: content of audit.json.
    """
    marks: dict[str, list[dict[str, Any]]] = {"FAIL": [], "UNDECIDED": []}
    for finding in audit["findings"]:
        marks.get(finding["verdict"], []).append(finding)
    # Of an earlier audit nothing is left.
    reasons, notes = (
        [line for line in result["eligibility"][key] if not line.startswith(AUDIT)]
        for key in ("reasons", "notes")
    )
    if not reasons:
        reasons = [f"{AUDIT}{f['probe']}: {f['summary']}" for f in marks["FAIL"]]
    notes += [f"{AUDIT}{f['probe']} is undecided: {f['summary']}" for f in marks["UNDECIDED"]]
    judgement = {"eligible": not reasons, "reasons": reasons, "notes": notes}
    about = {key: audit[key] for key in ("verdict", "mode", "cost_s")}
    failed = [finding["probe"] for finding in marks["FAIL"]]
    return {
        **result,
        "eligibility": {**result["eligibility"], **judgement},
        "audit": {**about, "failed": failed},
    }


def read_stages(cache: Path, keys: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Information of finished stages by name."""
    found = {name: Stage(cache, name, key).find() for name, key in keys.items()}
    return {name: info for name, info in found.items() if info is not None}


def measure_artifact(folder: Path, limit: int) -> dict[str, int]:
    """Bytes on disk of what is shipped: weights, code and both together."""
    sizes = {path.name: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    total = sum(sizes.values())
    model = sizes["model.pgolf"]
    return {
        "model_bytes": model,
        "code_bytes": total - model,
        "total_bytes": total,
        "limit": limit,
    }


def read_scores(path: Path) -> dict[str, Any]:
    """What the evaluate job wrote."""
    scores: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return scores
