"""Run folders read as they grow, and long curves thinned."""

from __future__ import annotations

import json
import math

import pytest

from pgolf.report.differences import differing, flattened, labels
from pgolf.report.downsample import lttb
from pgolf.report.folders import find_runs
from pgolf.report.history import History, read_run
from pgolf.report.overview import summary
from pgolf.report.rows import run_row
from pgolf.report.rundata import load_run
from pgolf.report.words import stage_label
from tests.report.fixtures import make_result, make_run


def line(**values) -> str:
    return json.dumps({"time": 1.0, "event": "train_step", **values}) + "\n"


def step(number: int, loss: float) -> str:
    return line(step=number, elapsed_s=number / 2, tokens=number * 64, **{"train/loss": loss})


def test_what_is_appended_is_read_once_and_a_half_line_waits(tmp_path):
    log = tmp_path / "events.jsonl"
    log.write_text(step(1, 5.0) + step(2, 4.0)[:20])
    history = History(tmp_path)
    assert history.refresh() and list(history.loss.columns[3]) == [5.0]
    assert not history.refresh()
    with log.open("a") as file:
        file.write(step(2, 4.0)[20:] + "{broken\n" + step(3, 3.0))
    assert history.refresh() and list(history.loss.columns[3]) == [5.0, 4.0, 3.0]
    assert list(history.loss.columns[2]) == [64.0, 128.0, 192.0]


def test_steps_that_are_done_again_replace_all_from_there(tmp_path):
    (tmp_path / "events.jsonl").write_text("".join(
        step(n, loss) for n, loss in ((1, 5.0), (2, 4.0), (3, 3.0), (2, 4.5), (4, 2.0))
    ))  # fmt: skip
    history = read_run(tmp_path)
    assert list(history.loss.columns[0]) == [1, 2, 4]
    assert list(history.loss.columns[3]) == [5.0, 4.5, 2.0]


def test_a_log_that_is_written_anew_is_read_anew(tmp_path):
    log = tmp_path / "events.jsonl"
    log.write_text(step(1, 5.0) + step(2, 4.0))
    history = read_run(tmp_path)
    log.write_text(step(1, 7.0))
    assert history.refresh() and list(history.loss.columns[3]) == [7.0]


def test_the_stage_is_the_one_that_began_last(tmp_path):
    log, seen = tmp_path / "events.jsonl", []
    history = History(tmp_path)
    for stage, status in (
        ("pack", "start"), ("pack", "done"), ("load", "start"), ("quantized", "start"),
        ("final", "start"), ("adapt", "start"),
    ):  # fmt: skip
        with log.open("a") as file:
            file.write(json.dumps({"event": "stage", "stage": stage, "status": status}) + "\n")
        history.refresh()
        seen.append(history.stage)
    assert seen == ["pack", "load", "load", "quantized", "final", "adapt"]
    assert stage_label(history.stage) == "test-time training and final score"


def test_losses_that_are_no_number_are_left_out(tmp_path):
    rows = [step(1, 5.0), step(2, math.nan), step(3, math.inf), line(step=4), step(5, 3.0)]
    (tmp_path / "events.jsonl").write_text("".join(rows))
    assert list(read_run(tmp_path).loss.columns[0]) == [1, 5]


def test_lttb_keeps_ends_and_spikes_and_the_limit():
    xs = [float(x) for x in range(1000)]
    ys = [math.sin(x / 50) for x in xs]
    ys[333] = 9.0
    kept = lttb(xs, ys, 40)
    assert len(kept) == 40 and kept[0] == 0 and kept[-1] == 999 and 333 in kept
    assert kept == sorted(set(kept))
    assert lttb(xs[:5], ys[:5], 40) == [0, 1, 2, 3, 4]
    assert lttb(xs[:4], ys[:4], 3) in ([0, 1, 3], [0, 2, 3])


@pytest.mark.parametrize("count", [3, 7, 41, 100])
def test_lttb_of_every_limit_is_ascending_without_repeats(count):
    xs = [float(x) for x in range(101)]
    kept = lttb(xs, [(x * 7919) % 13 for x in xs], count)
    assert len(kept) == count and kept == sorted(set(kept))


def test_runs_are_found_in_folders_and_through_a_sweeps_outcomes(tmp_path):
    run = make_run(tmp_path / "outputs" / "nano" / "a")
    (run / "artifact").mkdir()
    make_run(run / "artifact" / "hidden")  # what lies in a run is no run
    jobs = tmp_path / "outputs" / "sweeps" / "day"
    for job, outcome in (("0", {"run_folder": str(run)}), ("1", {"failed": "why"})):
        (jobs / job).mkdir(parents=True)
        (jobs / job / "outcome.json").write_text(json.dumps({"overrides": ["s=1"], **outcome}))
    assert find_runs([tmp_path]) == ([run], [("s=1", "why")])
    assert find_runs([jobs]) == ([run], [("s=1", "why")])
    assert find_runs([run, run]) == ([run], [])


def test_settings_differ_by_name_and_configurations_are_told_apart():
    a = flattened({"seed": 1, "ttt": {"_target_": "pgolf.ttt.none.NoTTT"}, "scale": {"dim": 8}})
    b = flattened({"seed": 2, "ttt": {"_target_": "pgolf.ttt.slot.Slot", "lr": 0.1},
                   "scale": {"dim": 8}})  # fmt: skip
    assert differing([a, b]) == ["ttt", "ttt.lr"] and b["ttt"] == "slot"
    overrides = [["seed=1", "x=1", "a=0"], ["x=2", "a=0"], ["x=2", "a=0"]]
    assert labels(["n", "n", "n"], overrides, ["k1", "k2", "k3"]) == [
        "x=1", "x=2 (k2)", "x=2 (k3)",
    ]  # fmt: skip
    paths = [["data.path=/a/b.jsonl"], ["data.path=/c/d.jsonl"]]
    assert labels(["n", "n"], paths, ["k1", "k2"]) == ["data.path=…/b.jsonl", "data.path=…/d.jsonl"]
    assert labels(["n", "m"], [["a=0"], ["a=0"]], ["k1", "k2"]) == ["n", "m"]


def test_the_group_of_a_finished_run_is_its_results(tmp_path):
    history = read_run(make_run(tmp_path / "run", seed=42))
    assert history.group == make_result(seed=42)["config_hash"] and history.result is not None
    assert history.seconds["train"] == 78.41 and history.scores["final"] == pytest.approx(1.8467)


@pytest.mark.parametrize(
    "config", ["- 1\n", "hello", "a: [b", "ttt: none\n", "ttt: {epochs: null}\n", b"\xff\xfe\x00"]
)
def test_a_run_with_any_configuration_is_shown(tmp_path, config):
    run = make_run(tmp_path / "run")
    (run / "config.yaml").write_bytes(config if isinstance(config, bytes) else config.encode())
    history = read_run(run)
    row = run_row(history, 20)
    assert row["state"] == summary(history)["state"] == "finished" and row["epochs"] is None
    assert load_run(run).result["seed"] == 1337


def test_events_of_another_shape_are_passed_over(tmp_path):
    run = make_run(tmp_path / "run")
    documents = {"event": "documents", "count": 1, "edges": [1], "counts": [1], "quartiles": [1]}
    tensors = [{"event": "tensors", "rows": rows} for rows in ([{}], 5)]
    with (run / "events.jsonl").open("a") as file:
        file.writelines(json.dumps(e) + "\n" for e in ([1], None, documents, *tensors))
    row = run_row(read_run(run), 20)
    assert row["tensors"] == [] and row["documents"] is None and row["bpb"]["final"]
    assert [e for e in load_run(run).loss_by_step if e[0] == 300]


def test_seconds_of_a_short_run_keep_their_digits(tmp_path):
    (tmp_path / "events.jsonl").write_text(
        "".join(line(step=n, elapsed_s=0.042 * n, **{"train/loss": 5.0 - n}) for n in (1, 2))
    )
    assert run_row(read_run(tmp_path), 20)["loss"]["seconds"] == [0.042, 0.084]


def test_an_outcome_of_another_shape_is_no_job(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "outcome.json").write_text("[1]")
    assert find_runs([tmp_path]) == ([], [])
