"""The audit of a published records folder: what its text and its logs can show, and what not."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pgolf.audit.finding import FAIL, PASS, UNDECIDED, Finding
from pgolf.audit.records.folder import Records, is_records_folder, read_records
from pgolf.audit.records.patterns import find_faults
from pgolf.audit.records.reach import CERTAIN, Hit
from pgolf.audit.records.runs import disjoint, meter, provenance, seeds
from pgolf.audit.records.sizes import artifact_size, cover, recount
from pgolf.clock import Clock

__all__ = ["audit_records_folder", "is_records_folder"]

# What only a run of the scorer, or the data, can show.
OPEN = {
    "FLIP": "the scorer was not run: causality is not shown",
    "SUM": "the scorer was not run: its distributions were not summed",
    "LEDGER": "the scorer was not run: its order of scores and updates was not watched",
    "ROUNDTRIP": "the documents and the tokenizer are not in the folder",
    "DOCS": "the scorer was not run: whether state crosses documents is not known",
}


def audit_records_folder(folder: Path) -> list[Finding]:
    """Findings about a folder of README.md, submission.json, train_gpt.py and logs.

    Nothing in the folder is run. Without a fault the verdict stays open: text cannot prove that a
    scorer is causal.
    """
    clock = Clock({})
    with clock.phase("read", "audit"):
        records = read_records(folder)
    findings = [_safety(records)]
    checks: list[tuple[str, Callable[[Records], Finding]]] = [
        ("RECOUNT", recount),
        ("COVER", cover),
        ("RELOAD", artifact_size),
        ("METER", meter),
        ("PROV", provenance),
        ("SEEDS", seeds),
        ("DISJOINT", disjoint),
    ]
    for name, check in checks:
        with clock.phase(name, "audit"):
            finding = _ask(name, check, records)
        findings.append(replace(finding, cost_s=round(clock.seconds(name), 3)))
    with clock.phase("code", "audit"):
        found = _code_findings(records)
    cost = round(clock.seconds("code"), 3)
    findings += [
        replace(finding, cost_s=cost if i == 0 else 0.0) for i, finding in enumerate(found)
    ]
    covered = {finding.probe for finding in findings if finding.verdict == FAIL}
    return findings + [
        Finding(name, UNDECIDED, f"{why[0].upper()}{why[1:]}.", not_checked=[why])
        for name, why in OPEN.items()
        if name not in covered
    ]


def _ask(name: str, check: Callable[[Records], Finding], records: Records) -> Finding:
    try:
        return check(records)
    except (ArithmeticError, ValueError, TypeError, LookupError, RecursionError) as error:
        # Claims can have any form; one that no rule expects is not a fault that is proved.
        what = f"the check failed: {type(error).__name__}: {error}"
        return Finding(name, UNDECIDED, what, not_checked=["everything that it looks at"])


def _safety(records: Records) -> Finding:
    """Whether all of the folder could be read without running it."""
    problems = [f"{code.name}: {problem}" for code in records.code for problem in code.problems]
    problems += [
        f"{code.name} is no Python that this version reads"
        for code in records.code
        if code.layers[-1].tree is None
    ]
    everything = [*problems, *records.faults]
    if everything:
        said = f"Parts of the folder were not read: {'; '.join(everything[:5])}."
        witness: dict[str, list[str]] = {"problems": problems, "faults": records.faults}
        return Finding("READ", UNDECIDED, said, witness, not_checked=everything)
    packed = [f"{c.name} ({c.layers[-1].how})" for c in records.code if len(c.layers) > 1]
    said = f"Packed code was unpacked as text: {', '.join(packed)}." if packed else "All was read."
    witness = {
        "files": [code.name for code in records.code],
        "logs": [x.name for x in records.logs],
    }
    return Finding("READ", PASS, said, witness)


def _code_findings(records: Records) -> list[Finding]:
    """A finding for each fault that the code shows."""
    settings: dict[str, str] = {}
    for log in records.logs:
        settings |= log.settings
    by_fault: dict[tuple[str, str], list[tuple[str, Hit]]] = {}
    unread: list[str] = []
    for name, layer in records.layers:
        try:
            hits = find_faults(layer.tree or ast.Module([], []), settings)
        except RecursionError:
            unread.append(f"{name}: nested too deeply to be read")
            continue
        where = f"{name} unpacked" if layer.how else name
        for hit in hits:
            by_fault.setdefault((hit.probe, hit.fault), []).append((where, hit))
    found = [_of_fault(probe, fault, rows) for (probe, fault), rows in by_fault.items()]
    if records.code and not found:
        why = "No known fault is seen in the code."
        found = [Finding("CODE", UNDECIDED if unread else PASS, why, not_checked=unread)]
    if not records.code:
        why = "There is no code in the folder."
        found = [Finding("CODE", UNDECIDED, why, not_checked=["the code"])]
    return found


def _of_fault(probe: str, fault: str, rows: list[tuple[str, Hit]]) -> Finding:
    certain = [row for row in rows if row[1].certainty == CERTAIN]
    where, hit = (certain or rows)[0]
    prefix = "" if certain else "possibly "
    return Finding(
        probe,
        FAIL if certain else UNDECIDED,
        f"{prefix}{fault}: {hit.why} ({where} line {hit.line}).",
        {
            "class": fault,
            "certainty": hit.certainty,
            "lines": [{"file": w, "line": h.line, "certainty": h.certainty} for w, h in rows],
        },
        not_checked=[] if certain else [f"{fault}: has to be looked at"],
    )
