"""LEDGER: whether text was scored before anything learned from it, once, and in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pgolf.audit.finding import Finding
from pgolf.audit.probe import failed, not_applicable, passed, undecided
from pgolf.audit.subject import Subject
from pgolf.result import AUDIT, FAIR_CALIBRATION
from pgolf.signature import methods

NO_TTT = "pgolf.ttt.none.NoTTT"
RELATIVE = 1e-9
# Of nats: the same weights, scored twice on a GPU.
SAME_WEIGHTS = 1e-4
# Of norms that two devices add up in another order.
OTHER_DEVICE = 1e-4


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
            *self._unnamed(subject, config, result),
            *self._calibration(result),
            *self._running_total(subject, config, result),
            *self._parts(subject, result),
            *self._states(subject),
            *self._own_words(result),
        ):
            return wrong
        missing = self._missing(subject, config, result)
        if missing:
            return undecided(self, f"The run does not say {' and '.join(missing)}.", *missing)
        parts, left = subject.named("ttt_part"), ["state of an optimizer, which no score can see"]
        if subject.state_of_artifact is None:
            left.append("whether the weights of the first score are those of the artifact")
        if not parts:
            what = "Nothing learns from validation text; no weight changed while it was scored."
            return passed(self, what, left, ttt=_ttt(config))
        return passed(
            self,
            f"{len(parts):,} parts are scored once, in order, each before it is learned from.",
            left, parts=len(parts), tokens=parts[-1]["tokens"], ttt=_ttt(config),
            state_before_first=parts[0]["states"]["before"],
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

    def _unnamed(
        self, subject: Subject, config: dict[str, Any], result: dict[str, Any]
    ) -> Iterator[Finding]:
        """Traces of test-time training before quantization that the configuration does not name."""
        target = config["ttt"]["_target_"]
        if target != NO_TTT and "adapt" in methods(target):
            return
        what = f"Weights were adapted before they were quantized, and {_ttt(config)} does not."
        epochs = subject.named("ttt_epoch")
        if epochs:
            yield failed(self, what, file="events.jsonl", event="ttt_epoch", epochs=len(epochs))
        before, after = result["bpb"]["ema"], result["bpb"]["adapted"]
        if before and after and abs(after["nats"] / before["nats"] - 1.0) > SAME_WEIGHTS:
            yield failed(
                self, what, file="result.json", averaged_nats=before["nats"],
                adapted_nats=after["nats"],
            )  # fmt: skip

    def _calibration(self, result: dict[str, Any]) -> Iterator[Finding]:
        found = result["provenance"].get("calibration")
        if found is not None and found not in FAIR_CALIBRATION:
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
        for key in ("tokens", "bpb"):
            if abs(rows[-1][key] - final[key]) > RELATIVE * abs(final[key]):
                yield failed(
                    self, "The running total does not end at the score.", key=key,
                    running=rows[-1][key], reported=final[key],
                )  # fmt: skip

    def _parts(self, subject: Subject, result: dict[str, Any]) -> Iterator[Finding]:
        """Each part goes on where the one before ended, and their nats add up to the score."""
        end, nats, rows = 0, 0.0, subject.named("ttt_part")
        for number, row in enumerate(rows):
            if row["part"] != number or row["begin"] != end or row["tokens"] <= end:
                yield failed(
                    self, f"Part {row['part']} is scored again or out of order.",
                    part=row["part"], position=row["begin"], after=end,
                )  # fmt: skip
            end, nats = row["tokens"], nats + row["nats"]
        final = result["bpb"].get("final")
        if not rows or final is None:
            return
        for key, found in (("tokens", end), ("nats", nats)):
            if abs(found - final[key]) > RELATIVE * abs(final[key]):
                yield failed(
                    self, "The parts do not add up to the score.", key=key, parts=found,
                    reported=final[key],
                )  # fmt: skip

    def _states(self, subject: Subject) -> Iterator[Finding]:
        """Weights and buffers before and after each score, and before the very first."""
        recorded = [row for row in subject.named("ttt_part") if row["states"] is not None]
        for row in recorded:
            states = row["states"]
            pairs = ((states["before"], states["after"]), states["predictor"])
            for before, after in pairs:
                if before != after:
                    yield failed(
                        self, f"State changed while part {row['part']} was scored.",
                        part=row["part"], position=row["begin"], norm_before=before,
                        norm_after=after,
                    )  # fmt: skip
        firsts = [(row["states"]["opened"], row["states"]["before"]) for row in recorded[:1]]
        for event in subject.named("state"):
            firsts.append((event["before"], event["after"]))
        for opened, before in firsts:
            if opened != before:
                yield failed(
                    self, "Weights changed before the first score was made, or while it was.",
                    position=0, norm_before=opened, norm_after=before,
                )  # fmt: skip
        if not firsts or subject.state_of_artifact is None:
            return
        shipped = subject.state_of_artifact()
        for opened, _ in firsts:
            if abs(opened - shipped) > OTHER_DEVICE * shipped:
                yield failed(
                    self, "The first score was not made with the weights of the artifact.",
                    position=0, norm_scored=opened, norm_shipped=shipped,
                )  # fmt: skip

    def _missing(
        self, subject: Subject, config: dict[str, Any], result: dict[str, Any]
    ) -> list[str]:
        missing = []
        if result["provenance"].get("calibration") is None:
            missing.append("what its quantizer was calibrated on")
        adapts = "score" in methods(config["ttt"]["_target_"])
        parts = [row for row in subject.named("ttt_part") if row["states"] is not None]
        if not (parts if adapts else subject.named("state")):
            missing.append("in which state each score was made")
        return missing

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
