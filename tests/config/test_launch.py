"""launch.py before anything starts: help, the composed tree and wrong configurations, by command.

A wrong configuration ends with exit code 2, names the key and the remedy, prints no traceback,
imports no torch and writes nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
# Runs launch.py as `python launch.py` does, and says in the end whether torch was imported.
WATCHED = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("imported:", sorted({"torch", "wandb", "pandas"} & set(sys.modules)), file=sys.stderr)
"""
NOTHING_HEAVY = "imported: []"


def launch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run launch.py, from a folder of its own."""
    command = [sys.executable, "-c", WATCHED, str(ROOT / "launch.py"), *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PGOLF_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["--info", "defaults"]])
def test_questions_are_answered_without_torch(tmp_path: Path, arguments: list[str]) -> None:
    done = launch(tmp_path, *arguments)
    assert done.returncode == 0 and NOTHING_HEAVY in done.stderr, done.stderr
    assert not list(tmp_path.iterdir())


def test_help_names_the_groups_and_cfg_prints_the_tree(tmp_path: Path) -> None:
    words = launch(tmp_path, "--help").stdout
    assert all(name in words for name in ("recurrent3", "prequant21", "gptq_sdclip", "v15"))
    tree = yaml.safe_load(launch(tmp_path, "--cfg", "job", "seed=7", "scale.num_layers=5").stdout)
    assert tree["seed"] == 7 and tree["scale"]["num_layers"] == 5


# Overrides, and parts of the message that they end with.
WRONG: list[tuple[list[str], list[str]]] = [
    (["model=recurent3"], ["model/recurent3", "baseline", "recurrent3"]),
    (["modle=baseline"], ["modle"]),
    (["optim.matirx_lr=0.1"], ["matirx_lr"]),
    (["+optim.matirx_lr=0.1"], ["optim.matirx_lr", "did you mean matrix_lr?"]),
    (["+scale.model_dmi=64"], ["scale.model_dmi", "did you mean model_dim?"]),
    (["+trian.loader=global"], ["trian", "did you mean train?"]),
    (["train.num_steps=many"], ["train.num_steps='many'", "expected int | None"]),
    (["train.loader=gloabl"], ["train.loader='gloabl'", "'published'"]),
    (["seed=x"], ["seed='x'", "whole number"]),
    (["scale.num_heads=3"], ["model_dim=128 does not divide into 3 heads", "scale.model_dim"]),
    (["scale.num_kv_heads=3"], ["num_kv_heads=3", "scale.num_kv_heads=..."]),
    (["tokenizer.vocab_size=512"], ["model.vocab_size=1024", "scale.vocab_size=512"]),
    (["tokenizer=bytes", "scale.vocab_size=200"], ["vocab_size=200", "256 byte"]),
    (["scale.eval_stride=300"], ["eval.stride=300", "scale.eval_stride=..."]),
    (["data=local"], ["missing value for data.path", "data.path=..."]),
    (["ttt.seq_len=${scale.nothing}"], ["ttt.seq_len", "scale.nothing"]),
    (["hardware.num_workers=3", "hardware=cpu"], ["3 workers do not divide the batch of 16"]),
    (["hardware.num_workers=0"], ["hardware.num_workers=0", "1 or more"]),
    (["codec._target_=json.JSONDecoder"], ["_target_ json.JSONDecoder"]),
    (["name=a/b"], ["name='a/b'", "letters, digits"]),
    (["seed="], ["seed"]),
    (["seed"], ["seed"]),
]


@pytest.mark.parametrize(("overrides", "parts"), WRONG, ids=[" ".join(o) for o, _ in WRONG])
def test_a_wrong_configuration_ends_with_2_and_a_remedy(
    tmp_path: Path, overrides: list[str], parts: list[str]
) -> None:
    done = launch(tmp_path, *overrides)
    assert done.returncode == 2, done.stderr
    assert all(part in done.stderr for part in parts), done.stderr
    assert "Traceback" not in done.stderr and NOTHING_HEAVY in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_misspelt_key_inside_an_experiment_file_is_found(tmp_path: Path) -> None:
    """Hydra composes it silently: only the comparison with the class's parameters finds it."""
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "typo.yaml").write_text(
        "# @package _global_\n# A hypothesis.\noptim:\n  matirx_lr: 0.03\n"
    )
    found = f"hydra.searchpath=[file://{tmp_path / 'mine'}]"
    done = launch(tmp_path, found, "experiment=typo")
    assert done.returncode == 2 and NOTHING_HEAVY in done.stderr
    assert "optim.matirx_lr" in done.stderr and "did you mean matrix_lr?" in done.stderr


def test_a_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "broken.yaml").write_text("# @package _global_\noptim:\n  matrix_lr: [0.03\n")
    done = launch(tmp_path, f"hydra.searchpath=[file://{tmp_path / 'mine'}]", "experiment=broken")
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "broken.yaml" in done.stderr and "line 4" in done.stderr


def test_an_experiment_of_ones_own_composes(tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "slow.yaml").write_text(
        "# @package _global_\n# A hypothesis.\nseed: 99\noptim:\n  matrix_lr: 0.003\n"
    )
    found = f"hydra.searchpath=[file://{tmp_path / 'mine'}]"
    done = launch(tmp_path, found, "experiment=slow", "--cfg", "job")
    tree = yaml.safe_load(done.stdout)
    assert tree["seed"] == 99 and tree["optim"]["matrix_lr"] == 0.003


def test_an_unwritable_output_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in ("file", "file/below"):
        done = launch(tmp_path, "debug=cpu", f"out_dir={folder}")
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert f"{folder} is no folder" in done.stderr and "out_dir=..." in done.stderr
        assert "imported: []" in done.stderr


def test_a_scheduler_that_ends_it_is_told_130(tmp_path: Path) -> None:
    code = (
        "import os, signal, time, launch\n"
        "def end():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)\n"
        "launch.launch = end\n"
        "launch.main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 130 and "interrupted" in done.stderr and "Trace" not in done.stderr
