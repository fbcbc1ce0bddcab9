"""The options that the how-to pages write out are complete: they run, and pass as the code does."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.docs.conftest import Copy
from tests.docs.pages import ROOT, commands_of, examples

pytestmark = pytest.mark.slow

INDEX = ROOT / "docs" / "howto" / "index.md"


def test_all_examples_run_together(copy: Copy) -> None:
    command = next(c for c in commands_of(INDEX) if "model=gated" in c.text)
    copy.launch([*command.words[2:], "out_dir=own"], *command.words[2:])
    (path,) = (copy.folder / "own").rglob("result.json")
    folder = path.parent
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    written = {Path(path).stem for path in examples() if path.endswith(".py")}
    used = {config[group]["_target_"].split(".")[-2] for group in (
        "model", "optim", "ttt", "quant", "codec", "eval", "tracking",
    )}  # fmt: skip
    assert used == written, "an example is not part of the command, or the reverse"
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    # It scored every token once, and what it learned while it scored was worth something.
    assert result["bpb"]["final"]["tokens"] == result["bpb"]["ema"]["tokens"] > 1000
    assert result["bpb"]["final"]["bpb"] < result["control"]["bpb"]
    assert result["bpb"]["final"]["bpb"] < 9.0  # ids at random: log2(512)
    with open(copy.folder / "runs.csv", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[-1][1:] == ["result", "bpb", str(result["bpb"]["final"]["bpb"])]


def test_examples_are_written_as_the_code_is(copy: Copy) -> None:
    files = [str(copy.folder / path) for path in examples() if path.endswith(".py")]
    assert len(files) >= 7
    for words in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, "--config", str(ROOT / "pyproject.toml")]
        done = subprocess.run([*command, *files], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("seq_len", [7, 8])
def test_halves_scores_every_position_once(copy: Copy, seq_len: int) -> None:
    """The example's windows by counting, for even and odd lengths and every short stream."""
    module: dict[str, object] = {"__name__": "halves"}
    exec((copy.folder / "pgolf" / "eval" / "halves.py").read_text(encoding="utf-8"), module)
    evaluator = module["HalvesEvaluator"](seq_len=seq_len, batch_seqs=2)  # type: ignore[operator]
    for num_positions in range(1, 40):
        windows, counts = evaluator.windows(num_positions), np.zeros(num_positions, int)
        for start, first in zip(windows.starts, windows.scored_from, strict=True):
            counts[first : start + seq_len] += 1
        assert (counts == 1).all(), f"{num_positions} positions: {counts}"
