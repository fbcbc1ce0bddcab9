"""LEDGER: whether text was scored before anything learned from it, once, and in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pgolf.audit.finding import Finding
from pgolf.audit.probe import failed, not_applicable, passed, undecided
from pgolf.audit.subject import Subject
from pgolf.result import AUDIT
from pgolf.signature import methods

FAIR = ("training text", "none")
RELATIVE = 1e-9


class Ledger:
    """Reads what a run recorded of its test-time training and its calibration."""

    name = "LEDGER"

    def check(self, subject: Subject) -> Finding:
        """Learning before the score fails; a running total has to be whole and in order."""
        config, result = subject.config, subject.result
        if config is None or result is None:
            return not_applicable(self, "There is no run whose order could be followed.")
        for wrong in (
            *self._before_scoring(subject, config),
            *self._calibration(result),
            *self._running_total(subject, config, result),
            *self._own_words(result),
        ):
            return wrong
        rows = subject.named("ttt_curve")
        if not rows:
            return passed(self, "Nothing learns from validation text.", ttt=_ttt(config))
        if result["provenance"].get("calibration") is None:
            what = "The run does not say what its quantizer was calibrated on."
            return undecided(self, what, "text of the calibration")
        return passed(
            self, f"{len(rows):,} parts are scored once, in order, each before it is learned from.",
            ["state around each score, beyond what the ledger of the evaluation enforces"],
            parts=len(rows), tokens=rows[-1]["tokens"], ttt=_ttt(config),
        )  # fmt: skip

    def _before_scoring(self, subject: Subject, config: dict[str, Any]) -> Iterator[Finding]:
        """Test-time training in the produce job sees text before the artifact scores it."""
        ttt = config["ttt"]
        if "adapt" not in methods(ttt["_target_"]) or ttt.get("source") != "validation":
            return
        epochs = subject.named("ttt_epoch")
        stage = [e for e in subject.named("stage") if e["stage"] == "ttt" and "seconds" in e]
        if not epochs and not ttt.get("epochs", 1):
            return
        yield failed(
            self,
            f"{_ttt(config)} trains on the validation text before that text is scored "
            "(condition 3: score before update).",
            where="ttt.source=validation", epochs=len(epochs) or ttt.get("epochs"),
            seconds=stage[-1]["seconds"] if stage else None,
            first_position=0,
        )  # fmt: skip

    def _calibration(self, result: dict[str, Any]) -> Iterator[Finding]:
        found = result["provenance"].get("calibration")
        if found is not None and found not in FAIR:
            yield failed(
                self, f"The quantizer was calibrated on {found}.", where="calibration", text=found
            )  # fmt: skip

    def _running_total(
        self, subject: Subject, config: dict[str, Any], result: dict[str, Any]
    ) -> Iterator[Finding]:
        rows, final = subject.named("ttt_curve"), result["bpb"].get("final")
        if final is None or not rows:
            if "score" in methods(config["ttt"]["_target_"]):
                yield failed(
                    self, f"{_ttt(config)} left no record of the order of its scores.",
                    file="events.jsonl", event="ttt_curve",
                )  # fmt: skip
            return
        before = 0
        for number, row in enumerate(rows):
            if row["tokens"] <= before:
                yield failed(
                    self, f"Part {number} is scored again or out of order.", part=number,
                    position=row["tokens"], after=before,
                )  # fmt: skip
            before = row["tokens"]
        part = config["ttt"].get("chunk_tokens")
        in_order = "documents" not in methods(config["ttt"]["_target_"])
        expected = -(-int(final["tokens"]) // part) if part and in_order else None
        by_document = config["ttt"].get("batch_docs") is not None
        if expected is not None and not by_document and len(rows) != expected:
            yield failed(
                self, f"{len(rows):,} parts are recorded, the text has {expected:,}.",
                parts=len(rows), expected_parts=expected,
            )  # fmt: skip
        for key in ("tokens", "bpb"):
            if abs(rows[-1][key] - final[key]) > RELATIVE * abs(final[key]):
                yield failed(
                    self, "The running total does not end at the score.", key=key,
                    running=rows[-1][key], reported=final[key],
                )  # fmt: skip

    def _own_words(self, result: dict[str, Any]) -> Iterator[Finding]:
        """What the run itself judged to break a rule is not overruled."""
        reasons = [r for r in result["eligibility"]["reasons"] if not r.startswith(AUDIT)]
        if reasons:
            yield failed(
                self, f"The run itself is not eligible: {' '.join(reasons)}",
                where="eligibility", reasons=reasons,
            )  # fmt: skip


def _ttt(config: dict[str, Any]) -> str:
    return str(config["ttt"]["_target_"]).rpartition(".")[2]
