"""Whole runs on real text: the embedded corpus, and FineWeb with the published tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.command import Workspace
from tests.reference import require_reference

pytestmark = pytest.mark.slow


def test_the_record_recipe_runs_small_on_the_embedded_corpus(workspace: Workspace) -> None:
    done = workspace.launch(
        "experiment=v15", "data=embedded", "tokenizer=caseops_lossless", "ttt.epochs=3"
    )
    assert done.result["bpb"]["adapted"]["bpb"] < done.result["bpb"]["ema"]["bpb"] < 8.0
    num_bytes = done.result["bpb"]["final"]["bytes"]
    where = ("documents", "documents.json", "document_bytes", "validation")
    corpus = json.loads((workspace.entry(*where, value=num_bytes) / where[1]).read_text())
    assert corpus["document_bytes"]["training"] > 5_000_000
    assert "loader: published" in (done.folder / "config.yaml").read_text()


def test_fineweb_with_the_published_tokenizer(workspace: Workspace, tmp_path: Path) -> None:
    shared = require_reference()
    documents = (shared / "data" / "fineweb_verify_docs.jsonl").read_text("utf-8").splitlines()
    lines = sorted(documents, key=len)[10:20]  # small ones
    (tmp_path / "val.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    num_bytes = sum(len(json.loads(line)["text"].encode("utf-8")) for line in lines)
    done = workspace.launch(
        f"data.path={shared / 'data' / 'fineweb_val_prefix.jsonl'}",
        f"data.val_path={tmp_path / 'val.jsonl'}",
        "data.max_bytes=400000",
        "tokenizer=caseops",
        f"tokenizer.path={shared / 'tokenizers' / 'fineweb_8192_bpe_caseops.model'}",
        "scale.vocab_size=8192",
        "ttt.epochs=2",
    )
    for name, score in done.result["bpb"].items():
        assert score["bytes"] == num_bytes, name
    assert done.result["bpb"]["adapted"]["bpb"] < done.result["bpb"]["ema"]["bpb"]
    assert done.losses()[-1] < done.losses()[0]
    assert done.result["artifact"]["total_bytes"] < 16_000_000
