"""The tokenizer report against counting by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf.events import EventLog
from pgolf.report.page import write_report
from pgolf.report.tokenizer import card, render
from pgolf.tokenizer.bytes import BytesTokenizer
from pgolf.tokenizer.caseops import CaseOpsTokenizer
from pgolf.tokenizer.caseops_lossless import LosslessCaseOpsTokenizer
from pgolf.tokenizer.roundtrip import roundtrip
from pgolf.tokenizer.survey import NUM_FAILURES, NUM_PIECES, first_difference, shown, survey
from tests.report.fixtures import make_run
from tests.tokenizer.corpus import documents


@given(st.text("ab", max_size=40), st.text("ab", max_size=40))
def test_first_difference_is_the_first(text: str, decoded: str) -> None:
    if text == decoded:
        return
    place = first_difference(text, decoded)["character"]
    assert text[:place] == decoded[:place]
    assert text[place : place + 1] != decoded[place : place + 1]


def test_what_cannot_be_seen_is_escaped() -> None:
    assert shown("a \n\t\0\u200b\ue001\u00e9") == "a \\n\\t\\x00\\u200b<TITLE>\u00e9"


def test_counts_are_those_of_the_tokens(lossless: LosslessCaseOpsTokenizer) -> None:
    texts = [*documents(5), "\U0001f642 NASA"]
    report = survey(lossless, texts)
    ids = [i for text in texts for i in lossless.encode(text)[0].tolist()]
    pieces = [lossless.model.pieces[i] for i in ids]
    assert {key: report[key] for key in roundtrip(lossless, [])} == roundtrip(lossless, texts)
    assert report["bytes_per_token"] == sum(len(t.encode()) for t in texts) / len(ids)
    controls = sum(piece in "\ue001\ue002\ue003\ue004" for piece in pieces)
    assert report["control_share"] == controls / len(ids)
    byte_pieces = sum(piece.startswith("<0x") for piece in pieces)
    assert byte_pieces >= 4 and report["byte_share"] == byte_pieces / len(ids)
    assert report["ids_in_use"] == len(set(ids))
    counts = Counter(shown(piece) for piece in pieces)
    frequent = {row["piece"]: row["count"] for row in report["frequent"]}
    assert len(frequent) == NUM_PIECES and frequent == {name: counts[name] for name in frequent}
    assert sorted(frequent.values(), reverse=True) == [n for _, n in counts.most_common(NUM_PIECES)]
    plain = [piece for piece in pieces if not piece.startswith("<0x")]
    assert report["longest"][0]["chars"] == max(map(len, plain))
    assert report["failures"] == []


def test_failures_show_the_place(caseops: CaseOpsTokenizer) -> None:
    report = survey(caseops, ["kalo", *["kalo mi\nren <b>"] * 9])
    assert report["exact"] == 1 and len(report["failures"]) == NUM_FAILURES
    assert report["failures"][0] == {
        "document": 1, "character": 7, "text": "kalo mi\\nren <b>", "decoded": "kalo mi ren <b>",
    }  # fmt: skip
    page = render({**report, "tokenizer": "caseops", "file": "a<b.jsonl"})
    assert "kalo mi\\nren &lt;b&gt;" in page and "a&lt;b.jsonl" in page
    assert "1 of 10 documents come back exactly" in page and "http" not in page


def test_any_tokenizer_has_a_report() -> None:
    report = survey(BytesTokenizer(vocab_size=264), ["\u00e9 a"])
    assert (report["tokens"], report["ids_in_use"], report["byte_share"]) == (4, 4, 0.0)
    assert {row["piece"] for row in report["frequent"]} == {"id 195", "id 169", "\u2581", "a"}


@pytest.mark.parametrize("texts", [[], [""]])
def test_no_tokens(caseops: CaseOpsTokenizer, texts: list[str]) -> None:
    report = survey(caseops, texts)
    assert report["bytes_per_token"] == 0 and report["frequent"] == []
    assert "come back exactly" in render({**report, "tokenizer": "caseops", "file": "x"})


def test_a_runs_report_says_what_survives(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert card(None) == "" and "Tokenizer" not in write_report(run).read_text()
    counts = {"documents": 7, "exact": 5, "bytes": 1000, "tokens": 400}
    EventLog(run / "events.jsonl").emit("tokenizer", "tokens", **counts)
    page = write_report(run).read_text()
    assert "2.5000" in page and "5 of 7 validation documents" in page
