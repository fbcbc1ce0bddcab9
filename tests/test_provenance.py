"""Provenance: complete, quick, sensitive to changes of the source, and blind where it has to be."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from pgolf import provenance


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / ".gitignore").write_text("outputs/\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_collect_is_json_and_quick():
    began = time.monotonic()
    found = provenance.collect(gpus=["H100"], command=["launch.py", "seed=1"])
    assert time.monotonic() - began < 0.6
    assert json.loads(json.dumps(found)) == found
    assert found["gpus"] == ["H100"] and found["command"] == ["launch.py", "seed=1"]
    assert {"torch", "hydra-core", "wandb"} <= set(found["packages"])
    assert found["cpu"] and found["cpu_count"] >= 1


def test_clean_checkout_has_a_commit_and_no_diff(checkout):
    state = provenance.git_state(checkout)
    assert state is not None and len(state["commit"]) == 40
    assert not state["dirty"] and state["diff_sha256"] is None


def test_every_change_of_the_source_changes_the_hash(checkout):
    hashes = []
    (checkout / "a.py").write_text("x = 2\n")
    hashes.append(provenance.git_state(checkout)["diff_sha256"])
    (checkout / "b.py").write_text("y = 1\n")
    hashes.append(provenance.git_state(checkout)["diff_sha256"])
    (checkout / "b.py").write_text("y = 2\n")
    hashes.append(provenance.git_state(checkout)["diff_sha256"])
    assert None not in hashes and len(set(hashes)) == 3
    (checkout / "outputs").mkdir()
    (checkout / "outputs" / "c").write_text("ignored")
    assert provenance.git_state(checkout)["diff_sha256"] == hashes[-1]


def test_without_commits_or_outside_git_it_still_works(tmp_path, checkout):
    below = checkout / "site-packages"
    below.mkdir()
    assert provenance.git_state(below) is None  # of another project, which says nothing
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    git(fresh, "init", "-q")
    assert provenance.git_state(fresh)["commit"] is None
    assert provenance.git_state(Path("/")) is None


def test_config_hash_is_blind_to_seed_names_and_order_only():
    config = {"seed": 1, "name": "a", "model": {"model_dim": 8, "num_layers": 2}, "tracking": {}}
    same = {"model": {"num_layers": 2, "model_dim": 8}, "seed": 2, "name": "b", "out_dir": "x"}
    other = {**config, "model": {"model_dim": 8, "num_layers": 3}}
    assert provenance.config_hash(config) == provenance.config_hash(same)
    assert provenance.config_hash(config) != provenance.config_hash(other)
