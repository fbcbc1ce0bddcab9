"""What is counted of a round trip."""

from __future__ import annotations

from pgolf.tokenizer.caseops import CaseOpsTokenizer
from pgolf.tokenizer.caseops_lossless import LosslessCaseOpsTokenizer
from pgolf.tokenizer.roundtrip import roundtrip
from tests.tokenizer.corpus import TRICKY


def test_lossless_is_exact(lossless: LosslessCaseOpsTokenizer) -> None:
    found = roundtrip(lossless, iter(TRICKY))
    raw_bytes = sum(len(text.encode()) for text in TRICKY)
    assert (found["documents"], found["exact"]) == (len(TRICKY), len(TRICKY))
    assert (found["bytes"], found["counted_bytes"]) == (raw_bytes, raw_bytes)
    assert found["first_inexact"] is None
    assert found["tokens"] == sum(len(lossless.encode(text)[0]) for text in TRICKY)


def test_lost_text_is_seen(caseops: CaseOpsTokenizer) -> None:
    found = roundtrip(caseops, ["plain", "two\nlines", " ends "])
    assert (found["documents"], found["exact"], found["first_inexact"]) == (3, 1, 1)
    assert (found["bytes"], found["counted_bytes"]) == (20, 18)


def test_no_documents(caseops: CaseOpsTokenizer) -> None:
    assert roundtrip(caseops, [])["documents"] == 0
