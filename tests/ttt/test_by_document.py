"""Methods that adapt while scoring: what each document took adds up to the final score alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pgolf.context import Context
from pgolf.data.stream import TokenStream
from pgolf.distributed import World
from pgolf.eval.by_document import TalliedStream
from pgolf.evaluate import adapt_and_score
from pgolf.ttt.document_ledger import DocumentLedger
from pgolf.ttt.documents import DocumentOrder
from tests.model.tiny import tiny_recurrent
from tests.ttt.adaptive import SLIDING
from tests.two_workers import run_in_two_workers

BOS, SEQ_LEN = 0, 16
SGD = {"lr": 0.1, "chunk_tokens": 50, "batch_seqs": 2, "seq_len": SEQ_LEN, "reserve_s": 0.0}
METHODS = {
    "score_first.ScoreFirstTTT": {"epochs": 1, **SGD},
    "phased_lora.PhasedLoraTTT": {
        "rank": 3, "alpha_per_rank": 1.8, "lora_lr": 0.001, "lora_weight_decay": 0.5,
        "lora_chunk_tokens": 5, "batch_docs": 4, "seed": 7, "prefix_docs": 5, "phases": 2, **SGD,
    },
}  # fmt: skip


def stream_of() -> TokenStream:
    random = np.random.default_rng(3)
    ids = random.integers(1, 61, 190).astype(np.uint16)
    ids[[0, 30, 31, 75, 100, 120, 189]] = BOS
    return TokenStream(ids, random.integers(0, 9, 190).astype(np.uint16))


def scored_by(method: str, folder: Path, text: TokenStream | None) -> dict[str, Any]:
    job = {
        "run_folder": str(folder), "cache": str(folder), "limits": {"evaluate": 600.0},
        "bos_id": BOS, "ttt": {"_target_": f"pgolf.ttt.{method}", **METHODS[method]},
    }  # fmt: skip
    model = tiny_recurrent().requires_grad_(False)
    scores = adapt_and_score(Context(job, World()), model, stream_of(), SLIDING, text)
    return {name: scores[name]["nats"] for name in ("control", "final")} | {"of": scores["final"]}


@pytest.mark.parametrize("method", METHODS)
def test_documents_add_up_to_the_adapted_score(method: str, tmp_path: Path) -> None:
    stream = stream_of()
    tallied = TalliedStream(stream, BOS, World())
    found, without = (scored_by(method, tmp_path, text) for text in (tallied, None))
    assert found["final"] == without["final"] != found["control"] == without["control"]
    starts, nats, tokens, raw_bytes = tallied.documents()
    assert starts.tolist() == np.flatnonzero(stream.ids == BOS).tolist()
    ends = np.append(starts[1:], 190).astype(int)
    # The first token of the stream is not scored; all others are, in their own document.
    spans = list(zip(starts.astype(int), ends, strict=True))
    assert tokens.tolist() == [end - max(start, 1) for start, end in spans]
    assert raw_bytes.tolist() == [int(stream.raw_bytes[max(a, 1) : b].sum()) for a, b in spans]
    assert (tokens.sum(), raw_bytes.sum()) == (found["of"]["tokens"], found["of"]["bytes"])
    assert nats.sum() == pytest.approx(found["final"], rel=1e-9) and nats.min() > 0


def _in_worker(world: World) -> tuple[Any, torch.Tensor]:
    model = tiny_recurrent()
    tallied = TalliedStream(stream_of(), BOS, world)
    ledger = DocumentLedger(
        model, tallied, SLIDING, world, order=DocumentOrder(5, 2, 4, 2), bos_id=BOS
    )
    for _ in ledger.rounds():
        with torch.no_grad():
            while ledger.score_next(model) is not None:
                pass
    return dataclasses.astuple(ledger.finish()), torch.from_numpy(tallied.documents())


def test_documents_of_two_ranks_are_those_of_one() -> None:
    _, alone = _in_worker(World())
    results = run_in_two_workers(_in_worker)
    for (nats, num_tokens, num_bytes), table in results:
        assert torch.equal(table, results[0][1]) and torch.equal(table[[0, 2, 3]], alone[[0, 2, 3]])
        assert table[2:].sum(1).tolist() == [num_tokens, num_bytes]
        assert float(table[1].sum()) == pytest.approx(nats, rel=1e-9)
        assert torch.allclose(table[1], alone[1], rtol=1e-6, atol=0)
