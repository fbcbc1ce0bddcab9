"""Numbers of cells and trials that no launcher or sweeper can work with are named at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pgolf.config import CONF
from pgolf.errors import UserError
from pgolf.sweep import SweepCallback
from pgolf.sweeps.counts import wrong_count


@pytest.mark.parametrize(
    ("hydra", "named"),
    [
        ({"launcher": {"n_jobs": 0}}, "hydra.launcher.n_jobs=0"),
        ({"sweeper": {"n_trials": 0}}, "hydra.sweeper.n_trials=0"),
        ({"sweeper": {"n_jobs": 0, "n_trials": 3}}, "hydra.sweeper.n_jobs=0"),
    ],
)
def test_what_is_wrong_is_named(hydra: dict[str, Any], named: str) -> None:
    assert named in str(wrong_count(hydra))


def test_what_launchers_know_is_right() -> None:
    right = ({}, {"launcher": {"n_jobs": -1}, "sweeper": {"n_jobs": 2, "n_trials": 1}})
    assert [wrong_count(hydra) for hydra in right] == [None, None]


@pytest.mark.parametrize("settings", [{"retries": "x"}, {"retries": -1}, {"gpus_per_job": "x"}])
def test_settings_of_the_callback_are_numbers(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="0 or more"):
        SweepCallback(**settings)


def launched(folder: Path, *overrides: str) -> tuple[int, str]:
    command = [sys.executable, str(CONF.parent / "launch.py"), "-m", "seed=1", *overrides]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=60)
    return done.returncode, done.stderr


def test_a_sweep_that_cannot_start_ends_with_code_2_and_one_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, said = launched(tmp_path, "out_dir=file")
    assert code == 2 and "choose a writable folder" in said and "Traceback" not in said
    code, said = launched(tmp_path, "hydra.callbacks.sweep.retries=-1")
    assert code == 2 and said.count("retries=-1") == 1 and "UserError" not in said
    pytest.importorskip("joblib")
    code, said = launched(tmp_path, "hydra/launcher=joblib", "hydra.launcher.n_jobs=0")
    assert code == 2 and "hydra.launcher.n_jobs=0: expected" in said and "Traceback" not in said
    assert not (tmp_path / "outputs").exists()
