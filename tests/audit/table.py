"""`python -m tests.audit.table`: puts every fault into a clean run and writes docs/validity.md.

Recall and false alarms are counted here, not written by hand; a fault that passes or a clean run
that is refused makes the exit code 1. Takes minutes: three small runs are made.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pgolf.audit.finding import ELIGIBLE, FAIL, NOT_ELIGIBLE, PASS
from pgolf.files import atomic_writer
from tests.audit.cases import FAULTY, HONEST, PROBES, subject
from tests.audit.made import Made, copy_of, make_run
from tests.audit.mutations import RUN_MUTATIONS
from tests.audit.test_mutations import SCORERS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "validity.md"
MORE = "more: "
CLEAN = {
    "fixed": ("ttt=none",),
    "phased": ("ttt=phased_lora",),
    "score_first": ("ttt=score_first", "ttt.chunk_tokens=512", "ttt.lr=0.05"),
}
HEAD = """# What the auditor was shown to catch

Written by `python -m tests.audit.table`, which puts each fault below into an otherwise clean run or
scorer and asks the auditor; `tests/audit/test_mutations.py` asserts the same. A run is "refused"
when the probe in the table fails, with a witness, and the verdict over all probes but FLIP and SUM,
which read no record, is NOT ELIGIBLE; a scorer when that probe fails. Clean runs are asked all.

How to read the numbers: probes were mended until they refused these faults, so they say what is
covered, not how many unknown faults would be found. Faults of runs are edits of files and events
that a run leaves: where weights move during a score, it is the record that says so. That a method
really learns too early is tried on scorers here and in `tests/audit/test_documents.py`. Clean twins
are few, and small. Mixed configurations among seeds are `pgolf compare`'s, in `test_compare.py`.

The first table has the classes of faults that were found in published scores, the second one others
that nobody published, as far as they are known. Upstream records folders are another matter: their
logs and scripts are read in `tests/audit/test_records*.py`. A run that trained on validation in a
way that left no record, or that stores the text in its weights, is not seen by any of these.
"""

# One fault: class, how it is put in, probe, whether it was refused.
Row = tuple[str, str, str, bool]


def scorer_rows() -> Iterator[Row]:
    """Scorers, the whole of which one probe sees."""
    for case in FAULTY:
        finding = PROBES[case.probe].check(subject(case))
        refused = finding.verdict == FAIL and bool(finding.witness)
        yield case.group, f"scorer: {case.how}", case.probe, refused


def run_rows(clean: dict[str, Made], folder: Path) -> Iterator[Row]:
    """Copies of clean runs with a fault."""
    for number, mutation in enumerate(RUN_MUTATIONS):
        made = copy_of(clean[mutation.run], folder / str(number))
        mutation.apply(made)
        verdict = made.audit(mutation.mode, without=SCORERS)
        failed = {finding.probe for finding in verdict.failures if finding.witness}
        refused = verdict.verdict == NOT_ELIGIBLE and mutation.probe in failed
        yield mutation.group, f"run: {mutation.how}", mutation.probe, refused


def clean_rows(clean: dict[str, Made]) -> Iterator[tuple[str, bool]]:
    """Runs and scorers that break no rule, and whether they were refused all the same."""
    for name, made in clean.items():
        for mode in ("quick", "full"):
            print(f"clean: {name}, {mode}", file=sys.stderr)
            final = made.result()["bpb"]["final"]
            verdict = made.audit(mode, rescore=lambda final=final: final)  # type: ignore[misc]
            yield f"run with {' '.join(CLEAN[name])}, audit={mode}", verdict.verdict != ELIGIBLE
    for case in HONEST:
        marks = {probe.check(subject(case)).verdict for probe in PROBES.values()}
        yield f"scorer: {case.how}", marks != {PASS}


def page(rows: list[Row], clean: list[tuple[str, bool]]) -> str:
    """The content of docs/validity.md."""
    known = [row for row in rows if not row[0].startswith(MORE)]
    others = [(row[0].removeprefix(MORE), *row[1:]) for row in rows if row[0].startswith(MORE)]
    alarms = sum(refused for _, refused in clean)
    lines = [HEAD, f"**Recall {_share(rows)}; false alarms {alarms} of {len(clean)}.**\n"]
    for title, part in (("Known classes", known), ("Other faults", others)):
        lines += [f"## {title}\n", f"{_share(part)} refused.\n"]
        lines += ["| class | what is put in | probe | refused |", "|---|---|---|---|"]
        lines += [
            f"| {group} | {how} | {probe} | {'yes' if refused else 'NO'} |"
            for group, how, probe, refused in sorted(part, key=lambda row: row[0])
        ]
        lines.append("")
    lines += ["## Clean twins\n", "| what | verdict |", "|---|---|"]
    lines += [f"| {what} | {'REFUSED' if refused else 'passes'} |" for what, refused in clean]
    return "\n".join(lines) + "\n"


def _share(rows: list[Row]) -> str:
    return f"{sum(row[3] for row in rows)} of {len(rows)}"


def main() -> int:
    """Make the runs, put the faults in, write the page."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made = {}
        for name, overrides in CLEAN.items():
            (folder / name).mkdir()
            # With its documents beside the shards, as the copies have them.
            made[name] = copy_of(make_run(folder / name, *overrides), folder / f"{name}-copy")
        clean = list(clean_rows(made))
        rows = [*scorer_rows(), *run_rows(made, folder)]
    text = page(rows, clean)
    with atomic_writer(PAGE, "w") as file:
        file.write(text)
    print(text)
    return int(not all(row[3] for row in rows) or any(refused for _, refused in clean))


if __name__ == "__main__":
    sys.exit(main())
