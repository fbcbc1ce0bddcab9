"""What a probe found, and the verdict over all findings; audit.json is made of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pgolf.files import write_json

SCHEMA = 1
FILE = "audit.json"

Mark = Literal["PASS", "FAIL", "UNDECIDED", "NOT_APPLICABLE"]
PASS: Mark = "PASS"
FAIL: Mark = "FAIL"
UNDECIDED: Mark = "UNDECIDED"
NOT_APPLICABLE: Mark = "NOT_APPLICABLE"

ELIGIBLE, NOT_ELIGIBLE, NOT_DECIDED = "ELIGIBLE", "NOT ELIGIBLE", "UNDECIDED"
EXIT_CODES = {ELIGIBLE: 0, NOT_ELIGIBLE: 3, NOT_DECIDED: 4}


@dataclass(frozen=True)
class Finding:
    """The answer of one probe.

    Args:
        probe: its name, e.g. "RECOUNT".
        verdict: UNDECIDED where what it needs is missing, NOT_APPLICABLE where there is nothing
            that it could find.
        summary: one plain sentence.
        witness: what shows it: a position and two numbers, a file, seconds; JSON values.
        cost_s: seconds that the probe took.
        not_checked: what this probe left out, one plain phrase each.
    """

    probe: str
    verdict: Mark
    summary: str
    witness: dict[str, Any] = field(default_factory=dict)
    cost_s: float = 0.0
    not_checked: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Verdict:
    """All findings about one subject.

    Args:
        subject: path of what was looked at.
        kind: "run", "artifact", "scorer" or "records".
        mode: how thoroughly, e.g. "quick".
        findings: in the order of the probes.
    """

    subject: str
    kind: str
    mode: str
    findings: Sequence[Finding]

    @property
    def verdict(self) -> str:
        """NOT ELIGIBLE by one failure; else UNDECIDED by one open question; else ELIGIBLE."""
        marks = {finding.verdict for finding in self.findings}
        if FAIL in marks:
            return NOT_ELIGIBLE
        return ELIGIBLE if PASS in marks and UNDECIDED not in marks else NOT_DECIDED

    @property
    def cost_s(self) -> float:
        return sum(finding.cost_s for finding in self.findings)

    @property
    def failures(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.verdict == FAIL]

    def as_dict(self) -> dict[str, Any]:
        """The content of audit.json."""
        return {
            "schema": SCHEMA,
            "subject": self.subject,
            "kind": self.kind,
            "mode": self.mode,
            "verdict": self.verdict,
            "cost_s": round(self.cost_s, 3),
            "findings": [asdict(finding) for finding in self.findings],
        }

    def save(self, folder: Path) -> Path:
        """Write audit.json into a folder."""
        write_json(folder / FILE, self.as_dict())
        return folder / FILE
