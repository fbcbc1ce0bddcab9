"""Bits per byte by document: how they are distributed, and which documents are the worst and best.

The evaluation leaves numbers alone (`pgolf.eval.by_document`); the text is added here, where the
tokenizer is. It stays in the run folder: trackers are not sent it.
Legend: D documents of at least MIN_BYTES.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from pgolf.data.stream import TokenStream
from pgolf.events import EventLog
from pgolf.protocols import Tokenizer

MIN_BYTES = 200  # a document of a few words says more about chance than about the model
BINS = 30
WORST, BEST = 10, 3
# Shares of the documents. What lies beyond has no bin, so that a few do not squeeze the rest.
TAILS = (0.005, 0.995)
TEXT_CHARS, TEXT_BYTES, TEXT_TOKENS = 400, 1000, 1600
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def tell_documents(
    path: Path, folder: Path, tokenizer: Tokenizer, final: dict[str, Any], events: EventLog
) -> None:
    """Emit one `documents` event, of less than 20 kB, for a final score.

    Nothing is told where the sums are not those of the score: an evaluator may score by itself,
    and the code that was shipped with an older artifact writes no table.

    Args:
        path: what `TalliedStream.write` wrote.
        folder: of the validation shards.
        final: the score; see `Score.as_dict`.
    """
    if not path.exists():
        return
    table = np.load(path)
    if [*table[2:].sum(1)] == [final["tokens"], final["bytes"]]:
        ids = TokenStream.open_validation(folder).ids
        events.emit("documents", "final", **documents_of(table, ids, tokenizer))


def documents_of(table: np.ndarray, ids: np.ndarray, tokenizer: Tokenizer) -> dict[str, Any]:
    """What the event says.

    Args:
        table: first token, nats, tokens and raw bytes of each document, ascending, float64.
        ids: the stream that was scored.

    Returns:
        `count` of the documents with at least `min_bytes`, and of the `short` ones; of the former
        `quartiles` of BPB, `edges` of the bins, `counts` in them, those `below` and `above`; and
        lists of documents: `worst`, `median`, `best`, each with its place in the stream.
    """
    starts, nats, tokens, raw_bytes = table
    ends = np.append(starts[1:], len(ids))
    kept = np.flatnonzero(raw_bytes >= MIN_BYTES)
    found: dict[str, Any] = {
        "min_bytes": MIN_BYTES,
        "count": len(kept),
        "short": int(np.count_nonzero(tokens)) - len(kept),
    }
    if not len(kept):
        return found
    bpb = nats[kept] / math.log(2.0) / raw_bytes[kept]

    def row(place: int) -> dict[str, Any]:
        document = int(kept[place])
        part = ids[int(starts[document]) : int(ends[document])]
        text, cut = beginning(part, tokenizer)
        return {
            "document": document, "bpb": round(float(bpb[place]), 6),
            "bytes": int(raw_bytes[document]), "tokens": int(tokens[document]),
            "text": text, "cut": cut,
        }  # fmt: skip

    order = [int(place) for place in np.argsort(-bpb, kind="stable")]
    return {
        **found,
        **histogram(bpb),
        # Of few documents, none is among both.
        "worst": [row(place) for place in order[: min(WORST, len(order) // 2)]],
        "median": [row(order[len(order) // 2])],
        "best": [
            row(place) for place in reversed(order[max(len(order) // 2, len(order) - BEST) :])
        ],
    }


def histogram(bpb: np.ndarray) -> dict[str, Any]:
    """Counts in bins of equal width between the tails, and of what lies beyond.

    Args:
        bpb: float64 [D], at least one.
    """
    low = math.floor(1000 * np.quantile(bpb, TAILS[0], method="lower")) / 1000
    high = math.ceil(1000 * np.quantile(bpb, TAILS[1], method="higher")) / 1000
    edges = np.linspace(low, max(high, low + 0.001), BINS + 1)
    return {
        "quartiles": [round(float(q), 6) for q in np.quantile(bpb, (0.25, 0.5, 0.75))],
        "edges": [round(float(edge), 6) for edge in edges],
        "counts": np.histogram(bpb, edges)[0].tolist(),
        "below": int(np.count_nonzero(bpb < edges[0])),
        "above": int(np.count_nonzero(bpb > edges[-1])),
    }


def beginning(ids: np.ndarray, tokenizer: Tokenizer) -> tuple[str, bool]:
    """A document's first characters, in few bytes of JSON, and whether it goes on.

    What is no UTF-8, and control characters but tabs and line ends, are U+FFFD.

    Args:
        ids: of the document.
    """
    # numpy's own integers are not what every tokenizer takes.
    whole = tokenizer.decode([int(token) for token in ids[:TEXT_TOKENS]])
    clean = whole[: 2 * TEXT_CHARS].encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    text = CONTROLS.sub("\ufffd", clean)[:TEXT_CHARS]
    while len(json.dumps(text, ensure_ascii=False).encode()) > TEXT_BYTES:
        text = text[:-10]
    return text, len(text) < len(whole) or len(ids) > TEXT_TOKENS
