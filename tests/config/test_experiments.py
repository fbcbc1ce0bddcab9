"""The recipe's neighbours: each composes to what its header says, and runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pgolf.config import CONF, compose
from pgolf.shipped import adapts_while_scoring
from tests.integration.command import Workspace

# What makes each the experiment that it is.
NEIGHBOURS: dict[str, dict[str, Any]] = {
    "baseline": {
        "data.name": "fineweb_sp1024", "model._target_": "pgolf.model.baseline.BaselineGPT",
        "model.num_layers": 9, "model.mlp_mult": 2.0, "model.vocab_size": 1024,
        "train.seq_len": 1024, "train.train_batch_tokens": 524288, "optim.matrix_lr": 0.04,
        "optim.embed_lr": 0.05, "optim.muon_momentum": 0.95, "train.ema_decay": 0.0,
        "quant.bits": 8, "eval.seq_len": 1024, "ttt._target_": "pgolf.ttt.none.NoTTT",
    },
    "pr1493": {
        "data.name": "fineweb_sp8192", "ttt._target_": "pgolf.ttt.score_first.ScoreFirstTTT",
        "ttt.lr": 0.005, "ttt.epochs": 3, "ttt.chunk_tokens": 32768, "model.qk_gain_init": 5.25,
        "model.loop_start": 3, "model.loop_end": 5, "quant.bits": 6, "quant.embed_bits": 8,
    },
    "pr1727": {
        "data.name": "fineweb_sp8192", "ttt.phases": 4,
        "ttt._target_": "pgolf.ttt.score_first_phased.ScoreFirstPhasedTTT",
    },
    "pr1729": {
        "data.name": "fineweb_caseops", "ttt._target_": "pgolf.ttt.phased_lora.PhasedLoraTTT",
        "ttt.prefix_docs": 2000, "ttt.phases": 3, "model.attention_scope": "document",
        "optim.matrix_lr": 0.026, "quant.calibration_batches": 16,
    },
    "pr1735": {
        "data.name": "fineweb_sp8192", "ttt._target_": "pgolf.ttt.prequant.PreQuantTTT",
        "ttt.epochs": 21, "tokenizer._target_": "pgolf.tokenizer.sp.SentencePieceTokenizer",
    },
    "pr1738": {
        "data.name": "fineweb_caseops", "ttt._target_": "pgolf.ttt.prequant.PreQuantTTT",
        "tokenizer._target_": "pgolf.tokenizer.caseops.CaseOpsTokenizer", "eval.stride": 64,
    },
}  # fmt: skip
NOT_ELIGIBLE = {"pr1735", "pr1738", "v15"}


def value_of(config: dict[str, Any], path: str) -> Any:
    node: Any = config
    for key in path.split("."):
        node = node[key]
    return node


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_key_values(name: str) -> None:
    config = compose([f"experiment={name}"])
    expected = NEIGHBOURS[name]
    assert {path: value_of(config, path) for path in expected} == expected
    assert config["train"]["loader"] == "published"
    assert config["hardware"]["num_workers"] == 8 and config["train"]["max_seconds"] == 588


def test_every_experiment_is_looked_at() -> None:
    files = {path.stem for path in (CONF / "experiment").glob("*.yaml")}
    assert files == {*NEIGHBOURS, "v15", "none"}


def test_v15_by_its_number_is_v15() -> None:
    assert compose(["experiment=pr1738"]) == compose(["experiment=v15"])


@pytest.mark.parametrize("name", [*NEIGHBOURS, "v15"])
def test_the_header_has_figures_and_the_verdict(name: str) -> None:
    text = (CONF / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
    header = " ".join(line[2:] for line in text.splitlines()[1:5] if line.startswith("# "))
    assert f"python launch.py experiment={name}" in header
    assert re.search(r"val BPB\s+1\.\d{3,5}", header)
    assert ("not eligible" in header) == (name in NOT_ELIGIBLE)
    if name not in NOT_ELIGIBLE:
        track = "B" if adapts_while_scoring(compose([f"experiment={name}"])) else "A"
        assert f"eligible (track {track})" in header


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("neighbours"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NEIGHBOURS)
def test_it_runs_small(workspace: Workspace, name: str) -> None:
    """Every stage for real; the text and the tokenizer of bytes are made here."""
    short = {
        "pr1738": ["ttt.epochs=2"],
        "pr1735": ["ttt.epochs=2"],
        "pr1729": ["ttt.rank=2", "model.bos_id=256"],
    }
    done = workspace.launch(
        f"experiment={name}", "scale.num_steps=3", "train.loader=global", *short.get(name, [])
    )
    result = done.result
    assert 0.0 < result["bpb"]["final"]["bpb"] < 20.0
    reasons = " ".join(result["eligibility"]["reasons"])
    assert ("condition 3" in reasons) == (name in NOT_ELIGIBLE), reasons
    assert (Path(done.folder) / "artifact" / "model.pgolf").is_file()
