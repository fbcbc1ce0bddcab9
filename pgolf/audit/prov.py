"""PROV: whether the reported number is the one that was measured, of what is shipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pgolf.audit.finding import Finding
from pgolf.audit.probe import failed, not_applicable, passed, undecided
from pgolf.audit.subject import Subject
from pgolf.files import sha256_file
from pgolf.provenance import config_hash

NUMBERS = ("nats", "tokens", "bytes", "bpb")
MANIFEST = "manifest.json"


class Prov:
    """Reads the score again from the events, and hashes configuration, data and artifact anew."""

    name = "PROV"

    def check(self, subject: Subject) -> Finding:
        """What contradicts fails; a hash that is not recorded leaves it undecided."""
        result = subject.result
        if result is None:
            return not_applicable(self, "There is no run whose record could be compared.")
        checks = (
            self._facts(subject, result),
            self._overrides(subject, result),
            self._order(subject),
            self._scores(subject, result),
            self._configuration(subject, result),
            self._artifact(subject),
            self._data(subject),
        )
        for found in checks:
            for wrong in found:
                return wrong
        missing = self._missing(subject, result)
        if missing:
            what = f"The record has no {', '.join(missing)}."
            return undecided(self, what, *missing, run_id=result.get("run_id"))
        here = None if subject.code_is_here is None else subject.code_is_here()
        if here is False:
            return failed(
                self, "The shipped code is not that of the sources which the run names.",
                file="artifact/code.zip", code_sha256=result["provenance"]["code_sha256"],
            )  # fmt: skip
        if here is None:
            what = "Another pgolf, or another Python, made the shipped code: FLIP and SUM ran this."
            return undecided(self, what, "the shipped code: audit with the pgolf that made the run")
        facts = subject.provenance or {}
        return passed(
            self, "The score, the configuration, the data and the artifact are those recorded.",
            config_hash=result["config_hash"],
            artifact=_short((subject.named("artifact") or [{}])[-1].get("files", {})),
            commit=(facts.get("git") or {}).get("commit"),
        )  # fmt: skip

    def _facts(self, subject: Subject, result: dict[str, Any]) -> Iterator[Finding]:
        """What a run says twice: in result.json, and in config.yaml or provenance.json."""
        config, facts = subject.config or {}, subject.provenance
        pairs = [("seed", result["seed"], config.get("seed", result["seed"]))]
        pairs.append(("name", result["name"], config.get("name", result["name"])))
        if facts is not None:
            pairs.append(("provenance", result["provenance"], facts))
        for key, said, elsewhere in pairs:
            if said != elsewhere:
                different = said, elsewhere
                if key == "provenance":
                    keys = [k for k in {*said, *elsewhere} if said.get(k) != elsewhere.get(k)]
                    different = sorted(keys), "provenance.json"
                yield failed(
                    self, f"The {key} of result.json is not that of the run.", key=key,
                    reported=different[0], recorded=different[1],
                )  # fmt: skip

    def _overrides(self, subject: Subject, result: dict[str, Any]) -> Iterator[Finding]:
        """What was typed stands in a file of its own, too."""
        path = subject.folder / "overrides.txt"
        if not path.is_file():
            return
        typed = path.read_text(encoding="utf-8")
        if typed != "".join(f"{override}\n" for override in result["overrides"]):
            yield failed(
                self, "The overrides of result.json are not those of the run.", file=str(path),
                reported=result["overrides"], recorded=typed.splitlines(),
            )  # fmt: skip

    def _order(self, subject: Subject) -> Iterator[Finding]:
        """The artifact was hashed before it was scored, and one final score was made."""
        kinds = [(row.get("event"), row.get("name")) for row in subject.events]
        finals = subject.named("score")
        finals = [row for row in finals if row.get("name") == "final"]
        values = {row["nats"] for row in finals}
        if len(values) > 1:
            yield failed(
                self, f"{len(finals)} final scores were measured: one run makes one.",
                file="events.jsonl", nats=sorted(values),
            )  # fmt: skip
        if finals and ("artifact", None) in kinds:
            hashed, scored = kinds.index(("artifact", None)), kinds.index(("score", "final"))
            hashes = [row["files"] for row in subject.named("artifact")]
            if hashed > scored or any(files != hashes[0] for files in hashes):
                yield failed(
                    self, "The artifact was hashed after it was scored, or twice.",
                    file="events.jsonl", hashed_line=hashed, scored_line=scored,
                )  # fmt: skip

    def _scores(self, subject: Subject, result: dict[str, Any]) -> Iterator[Finding]:
        measured = {event["name"]: event for event in subject.named("score")}
        final = result["bpb"].get("final")
        if final is None or "final" not in measured:
            what = "No event of this run measured the final score."
            if final is None or subject.damaged:  # perhaps it was measured
                yield undecided(self, what, "where the score comes from", file="events.jsonl")
            yield failed(self, what, file="events.jsonl")
        for name, score in (*result["bpb"].items(), ("control", result["control"])):
            if score is None:
                continue
            # The averaged weights' own score stands for a control that no evaluation made.
            source = "ema" if name == "control" and name not in measured else name
            if source not in measured:
                what = f"No event of this run measured the {name} score."
                yield undecided(self, what, "where it comes from", file="events.jsonl")
                continue
            for key in NUMBERS:
                # So that a number that is none differs.
                if not abs(score[key] - measured[source][key]) <= 1e-9 * abs(measured[source][key]):
                    yield failed(
                        self, f"The {name} score in result.json is not the measured one.",
                        where=f"bpb.{name}.{key}", reported=score[key],
                        measured=measured[source][key], file="events.jsonl",
                    )  # fmt: skip

    def _configuration(self, subject: Subject, result: dict[str, Any]) -> Iterator[Finding]:
        if subject.config is None:
            return
        found = config_hash(subject.config)
        if found != result["config_hash"]:
            yield failed(
                self, "config.yaml is not the configuration of the result.",
                file="config.yaml", hash=found, result_hash=result["config_hash"],
            )  # fmt: skip

    def _artifact(self, subject: Subject) -> Iterator[Finding]:
        scored = subject.named("artifact")
        if not scored or subject.artifact is None:
            return
        files: dict[str, Any] = scored[-1]["files"]
        paths = (path for path in subject.artifact.rglob("*") if path.is_file())
        there = {str(path.relative_to(subject.artifact)) for path in paths}
        for name in sorted(there | files.keys()):
            path = subject.artifact / name
            shipped = sha256_file(path) if path.is_file() else None
            recorded = files.get(name, {}).get("sha256")
            if shipped != recorded:
                yield failed(
                    self, f"artifact/{name} is not the file that was scored.",
                    file=f"artifact/{name}", shipped_sha256=shipped, scored_sha256=recorded,
                )  # fmt: skip

    def _data(self, subject: Subject) -> Iterator[Finding]:
        recorded = _data_record(subject)
        if subject.data is None or not recorded:
            return
        folder: Path = subject.data.folder
        found = {
            "manifest_sha256": sha256_file(folder / MANIFEST),
            "tokenizer_fingerprint": subject.data.manifest.tokenizer_fingerprint,
        }
        for key, value in found.items():
            if recorded.get(key) not in (None, value):
                yield failed(
                    self, "The data are not those of the run.", file=str(folder / MANIFEST),
                    key=key, found=value, recorded=recorded[key],
                )  # fmt: skip

    def _missing(self, subject: Subject, result: dict[str, Any]) -> list[str]:
        facts, data = result["provenance"], _data_record(subject)
        found = {
            "packages": facts.get("packages"),
            "hash of the code": facts.get("code_sha256"),
            "hash of the data": data.get("manifest_sha256"),
            "fingerprint of the tokenizer": data.get("tokenizer_fingerprint"),
            "hash of the configuration": result.get("config_hash"),
            "config.yaml": subject.config,
            "hash of the scored artifact": subject.named("artifact"),
        }
        return [name for name, value in found.items() if not value]


def _data_record(subject: Subject) -> dict[str, Any]:
    return ((subject.result or {}).get("provenance") or {}).get("data") or {}


def _short(files: dict[str, Any]) -> dict[str, str]:
    return {name: facts["sha256"][:12] for name, facts in files.items()}
