"""Which cells count as done, and that a failed one is tried once more and named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pgolf import sweep
from pgolf.config import compose
from pgolf.errors import RunFailed, UserError
from pgolf.sweeps import cells as cells_module
from pgolf.sweeps.cells import Cells, cell_key
from tests.integration.command import write_text
from tests.report.fixtures import make_result, make_run


def key(*overrides: str) -> str:
    return cell_key(compose(["debug=cpu", "tokenizer=bytes", "data=local", *overrides]))


def test_the_key_covers_configuration_seed_text_and_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = write_text(tmp_path / "text.jsonl", num_documents=30)
    path = f"data.path={text}"
    first = key(path)
    assert key(path) == key(path, "out_dir=elsewhere", "tracking=none") == first
    others = {key(path, "seed=2"), key(path, "ttt=none"), key(path, "quant.bits=5")}
    assert len({first, *others}) == 4
    monkeypatch.setattr(cells_module, "_code_hash", lambda: "other code")
    assert key(path) != first
    monkeypatch.undo()
    write_text(text, num_documents=31)
    assert key(path) != first


def test_code_that_does_not_count_is_there() -> None:
    missing = [n for n in cells_module.BLIND_CODE if not (cells_module.CODE / n).exists()]
    assert not missing


def test_a_cell_is_done_as_long_as_its_run_has_a_result(tmp_path: Path) -> None:
    cells, folder = Cells(tmp_path), make_run(tmp_path / "run")
    assert cells.find("k") is None
    cells.add("k", folder, ["seed=1"])
    found = cells.find("k")
    assert found is not None and found[0] == folder
    assert found[1] == json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text("{")
    assert cells.find("k") is None
    (folder / "result.json").unlink()
    assert cells.find("k") is None


class Job:
    """What a job leaves, without Hydra: `failing` attempts, then success."""

    def __init__(self, folder: Path, failing: list[Exception]) -> None:
        self.folder, self.failing, self.runs = folder, failing, 0

    def __call__(self, finished: sweep.Hook) -> float:
        self.runs += 1
        if self.failing:
            raise self.failing.pop(0)
        finished(self.folder)
        return 1.5


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    outcomes: list[dict[str, Any]] = []
    monkeypatch.setattr(sweep, "_record", outcomes.append)
    monkeypatch.setattr(sweep, "overrides_of", lambda job: ["seed=1"])
    monkeypatch.setattr(sweep.HydraConfig, "get", lambda: None)
    return outcomes


def test_a_failed_cell_is_tried_once_more_and_says_so(tmp_path: Path, left: list) -> None:
    job = Job(make_run(tmp_path / "run"), [RunFailed("a worker was killed")])
    cells = Cells(tmp_path)
    assert sweep._attempts(job, cells, "k", retries=1) == 1.5
    assert job.runs == 2 and cells.find("k") is not None
    assert left == [{"run_folder": str(tmp_path / "run"), "failed_before": ["a worker was killed"]}]


def test_a_cell_that_fails_twice_or_by_its_input_fails(tmp_path: Path, left: list) -> None:
    twice = Job(tmp_path, [RunFailed("one"), RunFailed("two")])
    with pytest.raises(RunFailed, match="two"):
        sweep._attempts(twice, Cells(tmp_path), "k", retries=1)
    wrong = Job(tmp_path, [UserError("quant.bits=9")])
    with pytest.raises(UserError):
        sweep._attempts(wrong, Cells(tmp_path), "k", retries=1)
    assert wrong.runs == 1 and left == [] and Cells(tmp_path).find("k") is None


def test_what_was_reused_is_counted_with_the_seconds_it_saved() -> None:
    results = [make_result(), make_result(reused=("train",)), make_result(reused=("train", "ttt"))]
    outcomes = sweep.Outcomes(results=results)
    train_s, ttt_s = results[0]["seconds"]["train"], results[0]["seconds"]["ttt"]
    found = sweep.reuse(outcomes)
    assert found["train"] == {"times": 2, "saved_s": pytest.approx(2 * train_s)}
    lines = sweep.reuse_lines(outcomes)
    assert lines[0] == f"stage cache: saved {2 * train_s + ttt_s:.1f} s"
    assert any("train: reused by 2 of 3" in line for line in lines)
    assert sweep.reuse_lines(sweep.Outcomes(results=results[:1])) == []


def test_jobs_are_read_in_their_order_and_the_silent_one_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", seed=7)
    for number, outcome in (
        (0, {"overrides": ["seed=7"], "run_folder": str(run), "skipped": True}),
        (2, {"overrides": ["bits=9"], "failed": "expected 2 to 8"}),
        (10, {"overrides": ["seed=7"], "run_folder": str(run), "failed_before": ["killed"]}),
    ):
        (tmp_path / "sweep" / str(number)).mkdir(parents=True)
        (tmp_path / "sweep" / str(number) / sweep.OUTCOME).write_text(json.dumps(outcome))
    (tmp_path / "sweep" / "1").mkdir()
    (tmp_path / "sweep" / ".submitit").mkdir()
    found = sweep.read_outcomes(tmp_path / "sweep")
    assert found.folders == [run, run] and found.skipped == 1
    assert [name for name, _ in found.failed] == ["1", "bits=9"]
    assert found.retried == [("seed=7", "killed")]


def test_a_result_that_is_gone_is_named_and_the_others_are_shown(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, seed=7) for name in ("kept", "gone")]
    for number, run in enumerate(runs):
        job = tmp_path / "sweep" / str(number)
        job.mkdir(parents=True)
        outcome = {"overrides": [f"seed={number}"], "run_folder": str(run)}
        (job / sweep.OUTCOME).write_text(json.dumps(outcome))
    (runs[1] / "result.json").unlink()
    found = sweep.read_outcomes(tmp_path / "sweep")
    assert found.folders == runs[:1] and len(found.results) == 1
    assert found.failed[0][0] == "seed=1" and "cannot be read any more" in found.failed[0][1]
