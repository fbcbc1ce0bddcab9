"""The `documents` event: bins, the worst, the middle and the best, and text that stays small."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from pgolf.data.shards import shard_writer
from pgolf.documents import BEST, BINS, MIN_BYTES, WORST, documents_of, tell_documents
from pgolf.events import EventLog, read_events
from pgolf.tokenizer.bytes import BytesTokenizer
from pgolf.tracking.metrics import metrics_of

BOS = 256
TOKENIZER = BytesTokenizer(vocab_size=257)


def made_of(texts: Iterable[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """The ids of documents, and a table in which each has 1% more BPB than the one before."""
    ids, rows = [], []
    for number, text in enumerate(texts):
        nats = math.log(2.0) * len(text) * (1 + number / 100)
        rows.append([len(ids), nats, len(text) + (number > 0), len(text)])
        ids += [BOS, *text]
    return np.array(ids, np.uint16), np.array(rows, np.float64).T


def test_the_worst_the_middle_and_the_best_have_their_text() -> None:
    texts = [f"document {number:3d} ".encode() * 40 for number in range(101)]
    texts[100] = b"x" * (MIN_BYTES - 1)  # would be the worst, were it long enough
    ids, table = made_of(texts)
    found = documents_of(table, ids, TOKENIZER)
    assert (found["count"], found["short"], found["min_bytes"]) == (100, 1, MIN_BYTES)
    assert [row["document"] for row in found["worst"]] == [99 - i for i in range(WORST)]
    assert [row["document"] for row in found["best"]] == list(range(BEST))
    assert [row["document"] for row in found["median"]] == [49]
    assert found["worst"][0] == {
        "document": 99, "bpb": 1.99, "bytes": 520, "tokens": 521,
        "text": ("document  99 " * 40)[:400], "cut": True,
    }  # fmt: skip
    assert found["quartiles"] == pytest.approx([1.2475, 1.495, 1.7425])


def test_bins_and_what_lies_beyond_are_all_documents() -> None:
    ids, table = made_of([b"y" * 300] * 1001)
    table[1, 1000] *= 50  # one that would squeeze all others into one bin
    found = documents_of(table, ids, TOKENIZER)
    assert len(found["counts"]) == BINS and len(found["edges"]) == BINS + 1
    assert sum(found["counts"]) + found["below"] + found["above"] == 1001
    assert found["above"] <= 5 and found["edges"][-1] < 12
    widths = np.diff(found["edges"])
    assert widths == pytest.approx(widths[0], abs=2e-6) and min(found["counts"]) > 20
    alone = documents_of(*reversed(made_of([b"z" * 300])), TOKENIZER)
    assert sum(alone["counts"]) == 1 and alone["worst"] == [] and len(alone["best"]) == 1
    assert "edges" not in documents_of(*reversed(made_of([b"short"])), TOKENIZER)


@pytest.mark.parametrize(
    "text",
    [
        "\u65e5\u672c\u8a9e".encode() * 400,
        b"\x00\x1b\x7f\r\n\"\\" * 100,
        b"\xff\xfe\xed\xa0\x80 no UTF-8 \xc3" * 60,  # a lone surrogate among it
        "\U0001f600".encode() * 300,
    ],
)  # fmt: skip
def test_an_event_of_any_text_can_be_written_and_is_small(text: bytes, tmp_path: Path) -> None:
    ids, table = made_of([text] * 30)
    np.save(tmp_path / "documents.npy", table)
    shards(tmp_path, ids)
    log = EventLog(tmp_path / "events.jsonl")
    final = {"tokens": int(table[2].sum()), "bytes": int(table[3].sum())}
    tell_documents(tmp_path / "documents.npy", tmp_path, TOKENIZER, final, log)
    assert (tmp_path / "events.jsonl").stat().st_size < 20_000
    (event,) = read_events(tmp_path / "events.jsonl")
    shown = event["worst"][0]["text"]
    assert len(shown) > 200 and not any(ord(c) < 9 or 127 <= ord(c) < 160 for c in shown)
    assert metrics_of(event) == ({}, {})  # no text for trackers
    json.dumps(event).encode()


def shards(folder: Path, ids: np.ndarray) -> None:
    """A validation split as published, with its sidecar."""
    sidecar = (ids < BOS).astype(np.uint16)
    for name, values in (("val", ids), ("val_bytes", sidecar)):
        with shard_writer(folder / f"fineweb_{name}_000000.bin") as shard:
            shard.append(values)


def test_sums_that_are_not_the_score_and_a_missing_table_say_nothing(tmp_path: Path) -> None:
    ids, table = made_of([b"y" * 300] * 4)
    log, path = EventLog(tmp_path / "events.jsonl"), tmp_path / "documents.npy"
    final = {"tokens": int(table[2].sum()), "bytes": int(table[3].sum()) + 1}
    tell_documents(path, tmp_path, TOKENIZER, final, log)
    np.save(path, table)
    shards(tmp_path, ids)
    tell_documents(path, tmp_path, TOKENIZER, final, log)
    assert not (tmp_path / "events.jsonl").exists()
