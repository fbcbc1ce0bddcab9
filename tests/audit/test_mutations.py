"""Every fault of the list is refused by its probe, and the whole audit says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pgolf.audit.finding import ELIGIBLE, FAIL, NOT_ELIGIBLE, PASS
from tests.audit.cases import FAULTY, HONEST, PROBES, Case, subject
from tests.audit.faults import Mutation
from tests.audit.made import Made, copy_of, make_run
from tests.audit.mutations import RUN_MUTATIONS

# Slow, and looking at nothing that a fault of a run's record changes.
SCORERS = {"FLIP", "SUM"}


@pytest.fixture(scope="session")
def phased(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A clean run that adapts document by document."""
    return make_run(tmp_path_factory.mktemp("phased"), "ttt=phased_lora")


@pytest.mark.parametrize("case", FAULTY, ids=lambda case: case.make.__name__)
def test_a_faulty_scorer_is_refused(case: Case) -> None:
    finding = PROBES[case.probe].check(subject(case))
    assert finding.verdict == FAIL and finding.witness


@pytest.mark.parametrize("case", HONEST, ids=lambda case: case.make.__name__)
def test_an_honest_scorer_passes(case: Case) -> None:
    assert [probe.check(subject(case)).verdict for probe in PROBES.values()] == [PASS, PASS]


@pytest.mark.slow
@pytest.mark.parametrize("mutation", RUN_MUTATIONS, ids=lambda mutation: mutation.apply.__name__)
def test_a_faulty_run_is_refused(
    mutation: Mutation, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    clean: Made = request.getfixturevalue("phased" if mutation.run == "phased" else "finished")
    made = copy_of(clean, tmp_path)
    mutation.apply(made)
    verdict = made.audit(mutation.mode, without=SCORERS)
    assert verdict.verdict == NOT_ELIGIBLE
    failed = {finding.probe: finding for finding in verdict.failures}
    assert mutation.probe in failed, verdict.failures
    assert failed[mutation.probe].witness


@pytest.mark.slow
def test_a_run_that_adapts_by_document_is_probed_in_its_order(phased: Made) -> None:
    audit: dict[str, Any] = json.loads((phased.run / "audit.json").read_text())
    assert audit["verdict"] == ELIGIBLE, audit
    found = {finding["probe"]: finding for finding in audit["findings"]}
    for name in ("FLIP", "SUM"):
        assert "PhasedLoraTTT" in found[name]["summary"]
    assert found["LEDGER"]["witness"]["parts"] >= 2
    assert found["LEDGER"]["witness"]["state_before_first"] > 0.0
