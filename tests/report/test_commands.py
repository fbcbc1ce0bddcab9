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
from pgolf.commands.output import show_table
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
    assert "2 of 2 runs finished" in text and "\x1b" not in text
    assert re.search(r"1337 +1\.8467 .* ██▂▂▁ +█\S{11}", text)
    assert main(["compare", str(folder / "nano" / "run-42"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [run["seed"] for run in answer["runs"]] == [42] and len(answer["losses"][0]) == 12
    assert main(["compare", str(folder / "nano" / "young")]) == 2
    assert "no result.json" in capsys.readouterr().err


def test_one_broken_result_of_a_folder_is_named_and_the_others_are_compared(folder, capsys):
    broken = folder / "nano" / "run-42"
    (broken / "result.json").write_text('{"schema": 0}')
    assert main(["compare", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "1 of 2 runs finished, 1 failed" in text and "has schema 0" in text and "1.8467" in text
    assert main(["runs", str(folder)]) == 0
    assert f"broken: {broken}: result.json has schema 0" in capsys.readouterr().out
    tested = ["compare", str(folder / "nano" / "run-1337"), "--against", str(broken)]
    for command in (["compare", str(broken)], ["report", str(broken)], tested):
        assert main(command) == 2
        assert f"{broken}: result.json has schema 0" in capsys.readouterr().err


def test_brackets_in_names_are_no_markup(tmp_path, capsys):
    run = make_run(tmp_path / "[bold]x" / "[red]a", seed=1)
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps({**result, "run_id": "[red]a"}))
    for command in (["runs", str(tmp_path)], ["compare", str(run), "--against", "1.9"]):
        assert main(command) == 0
        assert "[red]a" in capsys.readouterr().out
    show_table([{"key": "[/red]a"}])
    assert "[/red]a" in capsys.readouterr().out


def test_a_page_is_written_into_a_new_folder_and_its_links_are_addresses(tmp_path):
    run = make_run(tmp_path / "a#b?100%:c d")
    (run / "report.html").write_text("")
    output = tmp_path / "new" / "page.html"
    assert main(["report", str(run), "--output", str(output)]) == 0
    assert '"report":"../a%23b%3F100%25%3Ac%20d/report.html"' in output.read_text("utf-8")
    (tmp_path / "file").write_text("")
    assert main(["report", str(run), "--output", str(tmp_path / "file" / "page.html")]) == 2


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


def test_runs_without_a_usable_configuration_are_compared(folder, capsys):
    sides = [folder / "nano" / "run-1337", folder / "nano" / "run-42"]
    for index, run in enumerate(sides):
        (run / "config.yaml").write_text("- 1\n" if index else "a: [b")
        result = json.loads((run / "result.json").read_text())
        (run / "result.json").write_text(json.dumps({**result, "config_hash": f"{index}"}))
    assert main(["compare", *map(str, sides), "--against", "1.9"]) == 0
    assert "mean of 2" in capsys.readouterr().out
