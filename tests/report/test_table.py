"""The closing tables: complete, within 80 columns, and plain text where there is no terminal."""

from __future__ import annotations

import io
import re
import statistics

import pytest
from rich.console import Console

from pgolf.report.sweep import by_configuration, print_sweep, varying
from pgolf.report.table import print_result
from pgolf.report.texts import distinct_texts
from tests.report.fixtures import BPB, make_result, make_run


def printed(show, *arguments, width: int = 80, terminal: bool = False) -> str:
    file = io.StringIO()
    show(*arguments, Console(file=file, width=width, force_terminal=terminal))
    return file.getvalue()


@pytest.mark.parametrize("eligible", [True, False])
def test_result_fits_80_columns_without_escape_codes(eligible):
    result = make_result(eligible=eligible, model_bytes=15_940_000)
    text = printed(print_result, result)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert all(line == line.rstrip() for line in text.splitlines())
    assert "\u2026" not in text  # nothing cut short


def test_result_shows_scores_bytes_seconds_and_reasons():
    text = printed(print_result, make_result(reused=("train",)))
    for value in BPB.values():
        assert f"{value:.4f}" in text
    assert "953,565 of 16,000,000 bytes" in text and "6.0%" in text
    assert re.search(r"train +116\.4 +600", text)
    assert re.search(r"training +78\.4 +reused", text)
    assert "not eligible" in text and "because" in text and "condition 3" in text
    assert "2.0912 BPB" in text and "not from the artifact" in " ".join(text.split())


def test_a_budget_over_its_limit_is_said():
    text = printed(print_result, make_result(train_limit_s=60.0))
    assert re.search(r"train +116\.4 +60 +over the limit", text)
    assert "The train budget of 60 s is exceeded" in " ".join(text.split())


def test_terminal_gets_colours_and_paths_stay_whole(tmp_path):
    folder = make_run(tmp_path / ("long-name-" * 9) / "run")
    file = io.StringIO()
    print_result(make_result(), Console(file=file, width=80, force_terminal=True), folder)
    assert "\x1b[" in file.getvalue()
    assert str(folder / "result.json") in file.getvalue()


def sweep_results() -> list[dict]:
    return [
        make_result(
            seed=seed,
            epochs=epochs,
            shift=0.003 * index - 0.01 * epochs,
            overrides=("scale=nano", f"seed={seed}", f"ttt.epochs={epochs}"),
            reused=("train", "score_ema") if epochs else (),
        )
        for index, seed in enumerate((1337, 42, 999))
        for epochs in (0, 5)
    ]


def test_sweep_means_are_over_seeds_of_one_configuration():
    results = sweep_results()
    groups = by_configuration(results)
    assert sorted(len(group) for group in groups.values()) == [3, 3]
    text = printed(print_sweep, results, [])
    for epochs in (0, 5):
        values = [BPB["final"] + 0.003 * index - 0.01 * epochs for index in range(3)]
        mean, spread = statistics.mean(values), statistics.stdev(values)
        assert re.search(rf"ttt\.epochs={epochs} +3 +{mean:.5f} +{spread:.5f}", text)
    assert "scale=nano" not in text  # all jobs share it
    assert max(map(len, text.splitlines())) <= 80 and "\x1b" not in text


def test_the_same_run_again_is_no_second_seed():
    results = sweep_results()[::2]  # without epochs
    older = {**results[0], "run_id": "20261123-000000-1", "bpb": {**results[0]["bpb"]}}
    older["bpb"]["final"] = {**results[0]["bpb"]["final"], "bpb": 9.0}
    text = printed(print_sweep, [*results, older], [])
    assert re.search(r"recurrent3-nano +3 +1\.84970 +0\.00300 +1\.8467 +1\.8527", text)
    assert "seeds" not in printed(print_sweep, [results[0], older], [])  # one seed has no mean


def test_scores_of_different_texts_are_said_not_to_compare():
    results = sweep_results()
    assert "different texts" not in printed(print_sweep, results, [])
    results[0]["bpb"]["final"]["bytes"] = 1000
    text = printed(print_sweep, results, [])
    assert "scored on different texts (1,000; 1,204,311 bytes)" in text


def test_bytes_that_a_published_log_implies_are_not_exact():
    results = sweep_results()[:3]
    for result, size, within in zip(results, (999, 1000, 1003), (2, 0, 2), strict=True):
        result["bpb"] = {"final": {"bytes": size}}
        result["provenance"] = {"imported": {"bytes_within": within}} if within else {}
    assert distinct_texts(results[:2]) == [999]
    assert distinct_texts(results[1:]) == [1000, 1003]
    assert distinct_texts([*results[1:], {**results[0], "bpb": {"final": None}}]) == [1000, 1003]


def test_sweep_shows_each_job_and_names_failures_last():
    results = sweep_results()
    failed = [("seed=1 data.path='[/b]x'", "stage ttt: [bold]no[/bold] memory\n  log: a/log.txt")]
    text = printed(print_sweep, results, failed)
    assert "6 of 7 jobs finished, 1 failed" in text
    assert re.search(r"ttt\.epochs=5 +42 +1\.7997 +no +953,565 +60\.\d +train", text)
    tail = text[text.index("failed seed=1") :]
    assert "data.path='[/b]x'" in tail and "[bold]no[/bold] memory" in tail and "a/log.txt" in tail


def test_sweep_of_failures_only_is_printed():
    assert "0 of 1 jobs finished" in printed(print_sweep, [], [("seed=1", "no memory")])


def test_overrides_that_all_share_are_left_out():
    assert varying(sweep_results()) == {
        "seed=1337",
        "seed=42",
        "seed=999",
        "ttt.epochs=0",
        "ttt.epochs=5",
    }
