"""What a probe is, and the three shapes of its answer."""

from __future__ import annotations

from typing import Any, Protocol

from pgolf.audit.finding import FAIL, NOT_APPLICABLE, PASS, UNDECIDED, Finding
from pgolf.audit.subject import Subject


class Probe(Protocol):
    """One class a file, built from keyword-only settings by an entry of conf/audit/*.yaml.

    `check` looks at the parts of the subject that it needs, and says UNDECIDED where one is
    missing. It raises nothing for a subject that is wrong: that is a finding.
    """

    name: str

    def check(self, subject: Subject) -> Finding: ...


def passed(
    probe: Probe, summary: str, not_checked: list[str] | None = None, **witness: Any
) -> Finding:
    """A finding in favour of the subject, with what was compared."""
    return Finding(probe.name, PASS, summary, witness, not_checked=not_checked or [])


def failed(
    probe: Probe, summary: str, not_checked: list[str] | None = None, **witness: Any
) -> Finding:
    """A finding against the subject, with what shows it."""
    return Finding(probe.name, FAIL, summary, witness, not_checked=not_checked or [])


def undecided(probe: Probe, summary: str, *not_checked: str, **witness: Any) -> Finding:
    """Something is missing that the probe needs."""
    return Finding(probe.name, UNDECIDED, summary, witness, not_checked=list(not_checked))


def not_applicable(probe: Probe, summary: str) -> Finding:
    """The subject has nothing that this probe could find."""
    return Finding(probe.name, NOT_APPLICABLE, summary)
