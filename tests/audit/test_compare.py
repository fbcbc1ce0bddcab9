"""`pgolf compare --against`: where samples come from, what is left out, and what is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pgolf.audit.samples import read_side
from pgolf.cli import main
from pgolf.errors import UserError
from tests.report.fixtures import make_run

V15 = {"seeds": [1337, 42, 999], "bpb": [1.03484, 1.03618, 1.03519]}
PR_1735 = {"1337": 1.04114, "42": 1.04390, "999": 1.04366}


def written(path: Path, content: Any) -> str:
    path.write_text(json.dumps(content))
    return str(path)


@pytest.mark.parametrize(
    "content",
    [
        V15["bpb"],
        V15,
        dict(zip(map(str, V15["seeds"]), V15["bpb"], strict=True)),
        {"val_bpb": 1.0354, "seed_results": {
            str(s): {"val_bpb": b, "val_loss": b * 2.19} for s, b in zip(*V15.values(), strict=True)
        }},
    ],
)  # fmt: skip
def test_json_files_of_every_form(tmp_path: Path, content: Any) -> None:
    side, notes = read_side([written(tmp_path / "a.json", content)])
    assert side.bpb == V15["bpb"] and notes == [] and not side.fixed


def test_nats_per_token_need_the_bytes_of_a_token(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", {"val_loss": [2.2, 2.21]})
    with pytest.raises(UserError, match="bytes_per_token"):
        read_side([path])
    written(tmp_path / "a.json", {"val_loss": [2.2, 2.21], "bytes_per_token": 3.157})
    side, _ = read_side([path])
    assert side.mean == pytest.approx(2.205 / 0.693147 / 3.157, rel=1e-5)
    assert side.bytes_per_token == pytest.approx(3.157)


@pytest.mark.parametrize(
    "content", [[], {}, "x", [1.0, "1.1"], [1.0, -1.0], {"bpb": [1], "seeds": [1, 2]}]
)
def test_a_file_without_scores_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(UserError, match=r"a\.json"):
        read_side([written(tmp_path / "a.json", content)])


def test_a_number_stands_alone(tmp_path: Path) -> None:
    side, _ = read_side(["1.0304"])
    assert side.fixed and side.mean == 1.0304
    with pytest.raises(UserError, match="alone"):
        read_side(["1.03", written(tmp_path / "a.json", [1.0])])
    with pytest.raises(UserError, match="no run folder"):
        read_side([str(tmp_path / "nothing")])


def test_runs_left_out_are_named_with_the_mean_of_all(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "exp" / f"r{s}", seed=s, shift=s * 0.01) for s in range(4)]
    (tmp_path / "exp" / "r9").mkdir()
    (tmp_path / "exp" / "r9" / "config.yaml").write_text("seed: 9\n")
    side, notes = read_side([str(runs[0]), str(runs[1])])
    assert len(side.scores) == 2
    assert "holds 4 runs of this configuration, 2 are given" in notes[0]
    assert "seed 3" in notes[0] and "1 runs without a result: r9" in notes[1]
    # All of them, one by one or by a folder: nothing is left out but the unfinished one.
    for sources in ([str(run) for run in runs], [str(tmp_path / "exp")], [str(tmp_path)]):
        side, notes = read_side(sources)
        assert len(side.scores) == 4 and len(notes) == 1 and "r9" in notes[0]


def test_mixed_configurations_are_named_by_their_keys(tmp_path: Path) -> None:
    one = make_run(tmp_path / "a" / "r1", seed=1)
    two = make_run(tmp_path / "b" / "r2", seed=2, epochs=5)
    text = (two / "config.yaml").read_text().replace("epochs: 21", "epochs: 5")
    (two / "config.yaml").write_text(text.replace("seed: 1337", "seed: 2"))
    _, notes = read_side([str(one), str(two)])
    assert notes == ["The configurations differ in ttt.epochs (21, 5)."]


def test_a_sweep_folder_gives_its_jobs_and_counts_the_failed(tmp_path: Path) -> None:
    for job, seed in enumerate((1, 2)):
        run = make_run(tmp_path / "runs" / f"r{seed}", seed=seed, shift=seed * 0.001)
        folder = tmp_path / "sweep" / str(job)
        folder.mkdir(parents=True)
        written(folder / "outcome.json", {"overrides": [], "run_folder": str(run)})
    (tmp_path / "sweep" / "2").mkdir()
    (tmp_path / "sweep" / "3").mkdir()
    written(tmp_path / "sweep" / "3" / "outcome.json", {"overrides": [], "failed": "x"})
    side, notes = read_side([str(tmp_path / "sweep")])
    assert [score.seed for score in side.scores] == [1, 2]
    assert "2 of 4 jobs ended without a score" in notes[0]


def test_the_command_prints_and_answers(tmp_path: Path, capsys: Any) -> None:
    a, b = written(tmp_path / "a.json", V15), written(tmp_path / "b.json", PR_1735)
    assert main(["compare", a, "--against", b, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)["comparison"]
    assert answer["t"] == pytest.approx(7.7314, abs=1e-4)
    assert answer["side"]["std"] == pytest.approx(0.000695, abs=1e-6)
    assert [margin["record"] for margin in answer["margins"]] == [False, False]
    assert main(["compare", a, "--against", b]) == 0
    shown = capsys.readouterr().out
    for word in ("1.03618", "1337", "7.731", "0.00750", "nats per byte", "no"):
        assert word in shown


def test_wrong_requests_are_refused(tmp_path: Path, capsys: Any) -> None:
    a = written(tmp_path / "a.json", V15)
    assert main(["compare", a, "--against", a, "--alpha", "2"]) == 2
    assert main(["compare", "1.03", "--against", a]) == 2
    assert "after --against" in capsys.readouterr().err


def test_without_against_runs_stand_side_by_side(tmp_path: Path, capsys: Any) -> None:
    runs = [str(make_run(tmp_path / f"r{s}", seed=s)) for s in (1, 2)]
    assert main(["compare", *runs, "--json"]) == 0
    assert [run["seed"] for run in json.loads(capsys.readouterr().out)["runs"]] == [1, 2]
