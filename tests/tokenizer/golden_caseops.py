"""Comparison of tokenizer=caseops with the published one: called by tests/golden.py."""

from __future__ import annotations

import json
from pathlib import Path

from pgolf.tokenizer.caseops import CaseOpsTokenizer
from tests.reference import reference_folder

MODEL = "fineweb_8192_bpe_caseops.model"


def run(folder: Path) -> list[tuple[str, float, float]]:
    """(name, number of documents that differ, 0) for encoded text, ids and bytes.

    Args:
        folder: holds caseops.jsonl; the model lies in the folder `tokenizers` beside it, or in
            that of the reference data.

    Raises:
        LookupError: the model is not there.
    """
    path = published_model(folder)
    tokenizer = CaseOpsTokenizer(vocab_size=8192, path=str(path))
    tokenizer.fit([])
    differ = {"encoded text": 0, "ids": 0, "bytes": 0}
    for line in (folder / "caseops.jsonl").read_text(encoding="utf-8").splitlines():
        expected = json.loads(line)
        ids, raw_bytes = tokenizer.encode(expected["text"])
        differ["encoded text"] += (
            tokenizer.to_model(tokenizer.clean(expected["text"])) != expected["encoded"]
        )
        differ["ids"] += ids.tolist() != expected["ids"]
        same_total = int(raw_bytes.sum(dtype="int64")) == expected["raw_bytes"]
        differ["bytes"] += raw_bytes.tolist() != expected["bytes"] or not same_total
    return [(f"caseops: {name}, documents", count, 0) for name, count in differ.items()]


def published_model(folder: Path) -> Path:
    """The published CaseOps model; LookupError where it is not there."""
    beside = [folder.resolve().parent, reference_folder()]
    paths = [place / "tokenizers" / MODEL for place in beside if place is not None]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise LookupError(f"no {paths[0]}")
    return found
