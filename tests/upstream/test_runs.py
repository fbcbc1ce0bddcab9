"""A run speaks by the tokenizer of its shards, and scores on named shards as it did."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.command import Workspace


@pytest.mark.slow
def test_a_run_speaks_and_is_scored_by_a_stranger(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    done = workspace.launch("ttt=none", "scale.num_steps=4")
    final = done.result["bpb"]["final"]
    shards = done.result["provenance"]["data"]["folder"]
    again = workspace.answer("evaluate", done.folder, "--data", shards)
    assert again["bpb"] == pytest.approx(final["bpb"], rel=1e-6)
    assert again["standard"]["bpb"] == pytest.approx(
        done.result["bpb"]["quantized"]["bpb"], rel=1e-6
    )
    other = workspace.folder / "other.model"
    other.touch()  # the shards bring the tokenizer; one that is named beside it is compared
    wrong = workspace.pgolf("evaluate", done.folder, "--data", shards, "--tokenizer", other)
    assert wrong.code == 2 and str(other) in wrong.stderr
    said = workspace.pgolf("generate", done.folder, "Document 1", "--tokens", "8", "--stream")
    assert said.code == 0 and said.stdout.startswith("Document 1"), said.text
    plain = workspace.pgolf("generate", done.folder, "Document 1", "--tokens", "8", "--no-cache")
    assert plain.stdout == said.stdout
    wrong = workspace.pgolf("generate", done.folder, "x", "--top-p", "0")
    assert wrong.code == 2 and "--top-p 0.0" in wrong.stderr
