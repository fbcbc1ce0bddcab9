"""Eight workers against one, where hardly anything can be divided by eight.

The text has fewer documents than workers, batches of test-time training have fewer sequences, and
neither windows nor calibration batches nor matrices are a multiple of eight.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pgolf.artifact import read_artifact
from pgolf.quant.codes import IntTensor
from tests.integration.command import Done, Workspace

pytestmark = pytest.mark.slow
WORKERS = 8
EIGHT = f"hardware.num_workers={WORKERS}"
# Nothing goes by the clock: eight workers on two cores are slow.
UNEVEN = (
    *("seed=8", "train.max_seconds=null", "train.log_every=1"),
    *("scale.train_batch_tokens=1536", "scale.micro_batch_seqs=12"),
)
SHARED = ("ttt.sync=step", "ttt.epochs=2", "ttt.batch_seqs=5")
LORA = ("ttt=phased_lora", "ttt.prefix_docs=5", "ttt.phases=2", "ttt.batch_docs=1", "ttt.lr=0.05")


@pytest.fixture(scope="module")
def one(workspace: Workspace) -> Done:
    return workspace.launch(*UNEVEN, *SHARED)


@pytest.fixture(scope="module")
def eight(workspace: Workspace) -> Done:
    return workspace.launch(*UNEVEN, *SHARED, EIGHT)


def weights(workspace: Workspace, done: Done, stage: str, file: str) -> dict[str, Tensor]:
    keys = {e["stage"]: e["key"] for e in done.events("stage") if "key" in e}
    return load_file(workspace.cache / stage / keys[stage] / f"{file}.safetensors")


def assert_same_text(found: dict[str, Any], expected: dict[str, Any], rel: float) -> None:
    assert (found["tokens"], found["bytes"]) == (expected["tokens"], expected["bytes"])
    assert found["nats"] == pytest.approx(expected["nats"], rel=rel)


def test_they_train_as_one(workspace: Workspace, one: Done, eight: Done) -> None:
    assert eight.code == one.code == 0, one.text + eight.text
    assert "8 worker(s) on cpu" in eight.stderr and "train" in eight.stages("done")
    assert len(one.losses()) == 12
    assert eight.losses() == pytest.approx(one.losses(), rel=1e-5)
    adapting = [[e["train/loss"] for e in done.events("ttt_epoch")] for done in (one, eight)]
    assert len(adapting[0]) == 2 and adapting[1] == pytest.approx(adapting[0], rel=1e-5)
    for stage, file in (("train", "raw"), ("train", "ema"), ("ttt", "adapted")):
        expected = weights(workspace, one, stage, file)
        found = weights(workspace, eight, stage, file)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4, msg=stage)


def test_they_quantize_as_one(one: Done, eight: Done) -> None:
    expected, found = (
        read_artifact(done.folder / "artifact").codes.tensors for done in (one, eight)
    )
    matrices = [name for name, value in expected.items() if isinstance(value, IntTensor)]
    assert len(matrices) > WORKERS and len(matrices) % WORKERS
    total = different = 0
    for name in matrices:
        a, b = expected[name], found[name]
        assert isinstance(a, IntTensor) and isinstance(b, IntTensor)
        total, different = total + a.codes.numel(), different + int((a.codes != b.codes).sum())
    # A code at the edge of two moves, and with it some of those that make up for it.
    assert different < 0.01 * total


def test_they_score_as_one(one: Done, eight: Done) -> None:
    for name, score in one.result["bpb"].items():
        assert_same_text(eight.result["bpb"][name], score, rel=1e-4)


def test_they_score_and_adapt_as_one(workspace: Workspace, one: Done) -> None:
    done = workspace.launch(*UNEVEN, *LORA)
    assert "train" in done.stages("reused") and done.result["eligibility"]["eligible"]
    documents = done.events("documents")[0]["count"]
    assert 1 < documents < WORKERS
    expected = done.result["bpb"]["final"]
    assert expected["nats"] != pytest.approx(done.result["bpb"]["quantized"]["nats"], rel=1e-3)
    found = workspace.answer("evaluate", done.folder, EIGHT)
    assert_same_text(found, expected, rel=1e-5)


def test_a_batch_that_cannot_be_shared_is_refused(workspace: Workspace) -> None:
    done = workspace.launch(*UNEVEN, "scale.train_batch_tokens=1280", EIGHT)
    assert done.code == 2
    assert "8 workers do not divide the batch of 20 sequences" in done.stderr
    assert "Traceback" not in done.text
