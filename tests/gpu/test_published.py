"""The published artifact on a GPU: both figures of the published evaluators."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from pgolf.data.shards import shard_writer
from pgolf.evaluate_folder import evaluate_on
from pgolf.upstream.import_weights import import_weights
from tests.reference import require_reference

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

TOKENS, USED = 1_298_990, 1_298_433
STANDARD, SLIDING = 1.16943076, 1.35370932  # BPB, beside the file


def test_the_two_figures(tmp_path: Path) -> None:
    folder = require_reference()
    file = folder / "data" / "v15_h100.int6.ptz"
    model = folder / "tokenizers" / "fineweb_8192_bpe_caseops.model"
    if not file.is_file() or not model.is_file():
        pytest.skip(f"no {file} or no {model}")
    target = tmp_path / "imported"
    import_weights(file, target, experiment="v15", overrides=[], tokenizer=model)
    data = validation(folder / "data", model, tmp_path / "shards")
    found = evaluate_on(target, data, [], tmp_path / "cache")
    assert found["tokens"] == USED - 1
    assert found["standard"]["bpb"] == pytest.approx(STANDARD, abs=1e-3)
    assert found["bpb"] == pytest.approx(SLIDING, abs=1e-3)


def validation(source: Path, model: Path, target: Path) -> Path:
    """Both texts in their order, one BOS a document, cut to whole windows as published."""
    from pgolf.config import compose

    node = {**compose(["experiment=v15"])["tokenizer"], "path": str(model)}
    tokenizer = instantiate(node)
    tokenizer.fit(())
    ids: list[np.ndarray] = []
    raw: list[np.ndarray] = []
    for name in ("fineweb_val_prefix.jsonl", "fineweb_verify_docs.jsonl"):
        for line in (source / name).read_text(encoding="utf-8").rstrip("\n").split("\n"):
            found, counts = tokenizer.encode(json.loads(line)["text"])
            if len(found) == 0 or found[0] != tokenizer.bos_id:
                found = np.concatenate(([tokenizer.bos_id], found))
                counts = np.concatenate(([0], counts))
            ids.append(found)
            raw.append(counts)
    streams = {"val": np.concatenate(ids), "val_bytes": np.concatenate(raw)}
    assert len(streams["val"]) == TOKENS
    target.mkdir()
    for kind, values in streams.items():
        with shard_writer(target / f"fineweb_{kind}_000000.bin") as writer:
            writer.append(values[:USED].astype(np.uint16))
    return target
