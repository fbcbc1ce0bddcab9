"""Runs probes over a subject, one after the other, with the seconds that each took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pgolf.audit.finding import FAIL, UNDECIDED, Finding, Verdict
from pgolf.audit.probe import Probe
from pgolf.audit.subject import Subject
from pgolf.clock import Clock
from pgolf.errors import RunFailed, UserError
from pgolf.progress import track


class Auditor:
    """Some probes; an option of the group audit.

    Args:
        mode: name of the option, for the record.
        probes: of classes with `check`, in the order in which they run.
    """

    def __init__(self, *, mode: str, probes: list[Any]) -> None:
        self.mode = mode
        self.probes: Sequence[Probe] = probes

    def audit(self, subject: Subject, show: bool = True) -> Verdict:
        """Ask every probe; one that breaks leaves its condition undecided and stops no other."""
        clock, findings = Clock({}), []
        with track("audit", len(self.probes), "probe", show) as bar:
            for probe in self.probes:
                with clock.phase(probe.name, "audit"):
                    finding = _ask(probe, subject)
                findings.append(replace(finding, cost_s=round(clock.seconds(probe.name), 3)))
                bar.advance(1, f"{probe.name} {finding.verdict}")
        return Verdict(str(subject.folder), subject.kind, self.mode, findings)


def _ask(probe: Probe, subject: Subject) -> Finding:
    try:
        return probe.check(subject)
    except (UserError, RunFailed) as error:
        # A file that cannot be read or does not hold together is the subject's fault.
        return Finding(probe.name, FAIL, str(error), {"error": type(error).__name__})
    except Exception as error:
        what = f"the probe itself failed: {type(error).__name__}: {error}"
        return Finding(probe.name, UNDECIDED, what, not_checked=["everything that it looks at"])
