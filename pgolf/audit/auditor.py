"""Runs probes over a subject, one after the other, with the seconds that each took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pgolf.audit.finding import FAIL, UNDECIDED, Finding, Verdict
from pgolf.audit.probe import Probe
from pgolf.audit.subject import Subject
from pgolf.clock import Clock
from pgolf.errors import RunFailed, UserError
from pgolf.progress import track

RECORD = "RECORD"  # beside the probes: what is not there to be looked at


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
        clock, findings = Clock({}), [*_damage(subject)]
        with track("audit", len(self.probes), "probe", show) as bar:
            for probe in self.probes:
                with clock.phase(probe.name, "audit"):
                    finding = _ask(probe, subject)
                findings.append(replace(finding, cost_s=round(clock.seconds(probe.name), 3)))
                bar.advance(1, f"{probe.name} {finding.verdict}")
        return Verdict(str(subject.folder), subject.kind, self.mode, findings)


def _damage(subject: Subject) -> Iterator[Finding]:
    """What is missing leaves everything that depends on it undecided."""
    if subject.damaged:
        what = f"The record is not whole: {'; '.join(subject.damaged)}."
        yield Finding(RECORD, UNDECIDED, what, {"missing": subject.damaged})


def _ask(probe: Probe, subject: Subject) -> Finding:
    try:
        return probe.check(subject)
    except RunFailed as error:
        # What is shipped, or the method that scores, does not hold together.
        return Finding(probe.name, FAIL, str(error), {"error": type(error).__name__})
    except (UserError, OSError) as error:
        what = f"Something that it needs cannot be read: {error}"
        return Finding(probe.name, UNDECIDED, what, not_checked=["everything that it looks at"])
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        if not subject.damaged:
            what = f"the probe itself failed: {type(error).__name__}: {error}"
        else:
            what = f"The record is not whole: {type(error).__name__}: {error}"
        return Finding(probe.name, UNDECIDED, what, not_checked=["everything that it looks at"])
    except Exception as error:
        what = f"the probe itself failed: {type(error).__name__}: {error}"
        return Finding(probe.name, UNDECIDED, what, not_checked=["everything that it looks at"])
