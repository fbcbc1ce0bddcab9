"""Every file of sweeps/ and conf/hydra/launcher composes to what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from pgolf.config import CONF, compose
from pgolf.sweep import SweepCallback

ROOT = CONF.parent
SWEEPS = sorted(path.stem for path in (ROOT / "sweeps").glob("*.yaml"))
LAUNCHERS = sorted(path.stem for path in (CONF / "hydra" / "launcher").glob("*.yaml"))
SIZES = {"seeds": 3, "ttt_epochs": 22, "seeds_x_ttt": 9, "codecs": 5, "bits": 6}


def hydra_tree(folder: Path, *overrides: str) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "launch.py"), "--cfg", "hydra", *overrides]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=60)
    assert done.returncode == 0, done.stderr
    tree: dict[str, Any] = yaml.safe_load(done.stdout)["hydra"]
    return tree


def params_of(name: str) -> dict[str, str]:
    tree = yaml.safe_load((ROOT / "sweeps" / f"{name}.yaml").read_text()) or {}
    return tree.get("hydra", {}).get("sweeper", {}).get("params", {})


def test_the_group_is_the_folder_at_the_top() -> None:
    assert (CONF / "sweep").resolve() == ROOT / "sweeps"
    assert set(SIZES) | {"learning_rate", "none"} == set(SWEEPS)


@pytest.mark.parametrize("name", sorted(SIZES))
def test_every_cell_of_a_sweep_composes(name: str) -> None:
    cells: list[list[str]] = [[f"sweep={name}"]]
    for key, values in params_of(name).items():
        parsed = OverridesParser.create().parse_overrides([f"{key}={values}"])[0]
        choices = [f"{key}={value}" for value in parsed.sweep_string_iterator()]
        cells = [[*cell, choice] for cell in cells for choice in choices]
    assert len(cells) == SIZES[name]
    configs = [compose(cell) for cell in (cells[0], cells[-1])]
    assert configs[0] != configs[1]


def test_optuna_is_asked_for_learning_rates(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    tree = hydra_tree(tmp_path, "sweep=learning_rate")
    assert tree["sweeper"]["_target_"].endswith("OptunaSweeper")
    assert tree["sweeper"]["sampler"]["seed"] == 1 and tree["sweeper"]["max_failure_rate"] == 1.0
    for key in params_of("learning_rate"):
        compose([f"{key}=0.02"])


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_launcher_composes_by_one_override(tmp_path: Path, name: str) -> None:
    needed = {"submitit": "submitit", "submitit_local": "submitit"}.get(name)
    if needed is not None:
        pytest.importorskip(needed)
    launcher = hydra_tree(tmp_path, f"hydra/launcher={name}")["launcher"]
    words = {"serial": "Basic", "submitit": "Slurm", "submitit_local": "Local"}
    assert words.get(name, name.capitalize()) in launcher["_target_"]
    own = yaml.safe_load((CONF / "hydra" / "launcher" / f"{name}.yaml").read_text())
    values = {key: value for key, value in own.items() if key not in ("defaults", "_target_")}
    if name != "submitit_local":  # whose folder is an interpolation
        assert values.items() <= launcher.items()


def test_the_command_line_takes_the_place_of_a_sweeps_values() -> None:
    config = OmegaConf.create({"hydra": {
        "sweeper": {"params": {"seed": "1337,42", "ttt.epochs": "0,5"}},
        "overrides": {"task": ["sweep=seeds_x_ttt", "seed=1,2"]},
    }})  # fmt: skip
    SweepCallback().on_multirun_start(config)
    assert dict(config.hydra.sweeper.params) == {"ttt.epochs": "0,5"}
