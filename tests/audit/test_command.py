"""`pgolf audit` and the audit inside a run, as a user meets them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pgolf.audit.auditor import Auditor
from pgolf.audit.finding import (
    ELIGIBLE,
    FAIL,
    NOT_DECIDED,
    NOT_ELIGIBLE,
    UNDECIDED,
    Finding,
    Verdict,
)
from pgolf.audit.subject import Subject
from pgolf.auditing.runs import open_auditor
from pgolf.config import compose
from pgolf.errors import RunFailed, UserError
from pgolf.outcome import judged
from tests.audit.made import Made, make_run
from tests.integration.command import PGOLF


def pgolf(made: Made, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*PGOLF, "audit", str(made.run), "--data", str(made.data), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


@pytest.mark.slow
def test_exit_codes_and_the_witness_in_words(made: Made) -> None:
    good = pgolf(made, "--quick", "--json")
    assert good.returncode == 0, good.stderr
    answer = json.loads(good.stdout)
    assert answer == json.loads((made.run / "audit.json").read_text())
    assert "audit: " in good.stderr  # progress
    shutil.rmtree(made.data / "documents")
    undecided = pgolf(made, "--quick")
    assert undecided.returncode == 4 and "UNDECIDED" in undecided.stdout
    assert made.result()["audit"]["verdict"] == "UNDECIDED"
    (made.run / "artifact" / "table.bin").write_bytes(b"table")
    bad = pgolf(made, "--quick")
    assert bad.returncode == 3
    assert "NOT ELIGIBLE" in bad.stdout and "reported_bytes: " in bad.stdout


@pytest.mark.slow
def test_a_later_audit_is_the_verdict_everywhere(made: Made) -> None:
    clean = made.result()
    extra = made.run / "artifact" / "table.bin"
    extra.write_bytes(b"table")
    assert pgolf(made, "--quick").returncode == 3
    refused = made.result()
    assert not refused["eligibility"]["eligible"]
    assert {r.split(":")[1] for r in refused["eligibility"]["reasons"]} == {" PROV", " RELOAD"}
    page = (made.run / "report.html").read_text()
    assert "not eligible" in page and 'class="badge good">eligible' not in page
    extra.unlink()
    assert pgolf(made, "--quick").returncode == 0
    again = made.result()
    for result in (clean, again):
        del result["audit"]["cost_s"]
    assert again == clean


@pytest.mark.slow
def test_a_run_that_trains_on_validation_is_refused_by_its_own_audit(tmp_path: Path) -> None:
    made = make_run(tmp_path, "ttt=prequant21", "ttt.epochs=1")
    result = made.result()
    assert result["audit"]["verdict"] == NOT_ELIGIBLE and result["audit"]["failed"] == ["LEDGER"]
    # The run's own reason stays as it is.
    assert len(result["eligibility"]["reasons"]) == 1
    assert "condition 3" in result["eligibility"]["reasons"][0]


@pytest.mark.slow
def test_a_run_that_adapts_while_scoring_passes_and_is_really_probed(tmp_path: Path) -> None:
    made = make_run(tmp_path, "ttt=score_first", "ttt.chunk_tokens=512", "ttt.lr=0.05")
    audit = json.loads((made.run / "audit.json").read_text())
    assert audit["verdict"] == ELIGIBLE
    found = {finding["probe"]: finding for finding in audit["findings"]}
    assert "ScoreFirstTTT" in found["FLIP"]["summary"] + found["SUM"]["summary"]
    assert found["LEDGER"]["witness"]["parts"] > 1


def test_a_refusal_makes_a_result_not_eligible() -> None:
    eligibility = {"eligible": True, "track": "A", "reasons": [], "notes": ["a note"]}
    result: dict[str, Any] = {"eligibility": eligibility}
    findings = [
        Finding("RECOUNT", FAIL, "Bytes are wrong."),
        Finding("DISJOINT", UNDECIDED, "Not there."),
    ]
    verdict = Verdict("a run", "run", "quick", findings)
    after = judged(result, verdict.as_dict())
    assert after["eligibility"]["reasons"] == ["Audit: RECOUNT: Bytes are wrong."]
    assert not after["eligibility"]["eligible"] and eligibility["eligible"]
    assert after["eligibility"]["notes"][0] == "a note" and "DISJOINT" in str(after)
    assert after["audit"] == {
        "verdict": NOT_ELIGIBLE, "mode": "quick", "cost_s": 0.0, "failed": ["RECOUNT"],
    }  # fmt: skip


def test_a_probe_that_breaks_leaves_its_condition_undecided() -> None:
    class Breaks:
        name = "BREAKS"

        def check(self, subject: Subject) -> Finding:
            raise ZeroDivisionError("oh")

    class Refuses(Breaks):
        name = "REFUSES"

        def check(self, subject: Subject) -> Finding:
            raise RunFailed("the artifact does not hold together")

    class Misses(Breaks):
        name = "MISSES"

        def check(self, subject: Subject) -> Finding:
            raise UserError("the data cannot be read")

    auditor = Auditor(mode="own", probes=[Breaks()])
    subject = Subject("scorer", Path("x"))
    verdict = auditor.audit(subject, show=False)
    assert verdict.verdict == NOT_DECIDED and "ZeroDivisionError" in verdict.findings[0].summary
    verdict = Auditor(mode="own", probes=[Misses()]).audit(subject, show=False)
    assert verdict.verdict == NOT_DECIDED and "cannot be read" in verdict.findings[0].summary
    verdict = Auditor(mode="own", probes=[Breaks(), Refuses()]).audit(subject, show=False)
    assert verdict.verdict == NOT_ELIGIBLE


@pytest.mark.parametrize("mode", ["quick", "full", "none"])
def test_options_are_checked_key_by_key(mode: str) -> None:
    config = compose([f"audit={mode}"])
    assert config["audit"]["mode"] == mode
    assert len(open_auditor(mode).probes) == len(config["audit"]["probes"])
    with pytest.raises(UserError, match=r"no such option; there are full, none, quick"):
        open_auditor("thorough")


def test_a_misspelt_key_of_a_probe_is_named() -> None:
    from pgolf import config as checks

    config = compose([])
    config["audit"]["probes"][0]["max_docs"] = 3
    with pytest.raises(UserError, match=r"audit.probes\[0\].max_docs"):
        checks.check(config)
