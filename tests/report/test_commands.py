"""`pgolf runs`, `compare`, `report` and `dashboard` as they are typed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from pgolf.cli import main
from pgolf.report.overview import LEVELS, PLAIN_LEVELS, age, means, sparkline
from tests.report.fixtures import make_run


@pytest.fixture
def folder(tmp_path):
    for seed, shift in ((1337, 0.0), (42, 0.01)):
        make_run(tmp_path / "outputs" / "nano" / f"run-{seed}", seed=seed, shift=shift)
    make_run(tmp_path / "outputs" / "nano" / "young")
    (tmp_path / "outputs" / "nano" / "young" / "result.json").unlink()
    return tmp_path / "outputs"


def test_runs_in_a_pipe_are_plain_lines(folder, capsys):
    assert main(["runs", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text and len(text.splitlines()) == 5
    row = next(line for line in text.splitlines() if "run-42" in line)
    assert re.search(r"42 +1\.8567 +no +953,565 +141\.\d +█\S{11} +2\.\d+ +finished", row)
    assert re.search(r"young .* 1\.8467 +- +- .*stopped", text)


def test_runs_as_json_sorted_and_cut(folder, capsys):
    assert main(["runs", str(folder), "--json", "--sort", "bpb", "--last", "2"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [row["run"] for row in runs][-1] == "run-42" and len(runs) == 2
    assert runs[-1]["bpb"] == pytest.approx(1.8567) and len(runs[-1]["losses"]) == 12
    assert main(["runs", str(folder), "--last", "0"]) == 2
    assert main(["runs", str(folder / "missing")]) == 2
    assert "is no folder" in capsys.readouterr().err


def test_compare_of_a_folder_shows_finished_runs_with_sparklines(folder, capsys):
    assert main(["compare", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "2 of 2 jobs finished" in text and "\x1b" not in text
    assert re.search(r"1337 +1\.8467 .* ██▂▂▁ +█\S{11}", text)
    assert main(["compare", str(folder / "nano" / "run-42"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [run["seed"] for run in answer["runs"]] == [42] and len(answer["losses"][0]) == 12
    assert main(["compare", str(folder / "nano" / "young")]) == 2
    assert "no result.json" in capsys.readouterr().err


def test_report_of_one_run_and_of_many(folder, capsys, tmp_path):
    run = folder / "nano" / "run-42"
    assert main(["report", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(run / "report.html")}
    assert main(["report", str(folder)]) == 0
    page = (folder / "comparison.html").read_text(encoding="utf-8")
    assert '"report":"nano/run-42/report.html"' in page and '"report":null' in page
    output = tmp_path / "both.html"
    assert main(["report", str(run), str(folder), "--output", str(output)]) == 0
    assert output.read_text(encoding="utf-8").count('"run":"') == 3
    assert main(["report", str(tmp_path / "missing")]) == 2


def test_sparklines_go_from_lowest_to_highest():
    assert sparkline([]) == "" and sparkline([2.0, 2.0]) == LEVELS[4] * 2
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == LEVELS
    assert set(sparkline([3.0, 1.0, 2.0], plain=True)) <= set(PLAIN_LEVELS)
    assert means([1.0, 3.0, 5.0, 7.0], 2) == [2.0, 6.0] and means([1.0], 5) == [1.0]
    assert age(None) == ""


def test_dashboard_says_where_it_is_and_ends_at_ctrl_c(folder):
    command = [sys.executable, "-m", "pgolf.cli", "dashboard", str(folder), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True,
        # A suite that runs in the background of a shell hands down an ignored Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as server:  # fmt: skip
        try:
            assert server.stdout is not None
            found = re.match(r"3 runs at (http://127\.0\.0\.1:\d+/)", server.stdout.readline())
            assert found is not None
            with urllib.request.urlopen(found[1], timeout=30) as answer:
                assert b"run-42" in answer.read()
            os.kill(server.pid, signal.SIGINT)
            assert server.wait(10) == 0
        finally:
            server.kill()
