"""The auditor's own reading of tokens against the tokenizers; RECOUNT and ROUNDTRIP of these."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from pgolf.audit.finding import FAIL, PASS, UNDECIDED
from pgolf.audit.pieces import read_pieces
from pgolf.audit.recount import Recount
from pgolf.audit.roundtrip import RoundTrip
from pgolf.audit.subject import DataFolder, Subject
from pgolf.data.local import LocalText
from pgolf.tokenizer.bytes import BytesTokenizer
from pgolf.tokenizer.caseops import CaseOpsTokenizer
from pgolf.tokenizer.caseops_lossless import LosslessCaseOpsTokenizer
from pgolf.tokenizer.sp import SentencePieceTokenizer
from tests.audit.made import write_documents
from tests.reference import require_reference

RECOUNT = Recount(max_documents=None)
TRIP = RoundTrip(max_documents=None, lossy="fail")
HARD = [
    "McDonald met NASA in the U.S.A., iPhone X",
    "\ue001 controls \ue002ABC and \u2581 marks \ue004\ue004",
    "tabs\tand\n\nlines  two spaces, naïve 漢字 🜁",
    " leading and trailing ",
    "ALLCAPS\ue003x Ünicode ÀÉ",
]


def folder_of(tokenizer: Any, path: Path, documents: Path | None = None) -> DataFolder:
    """Shards of documents made here, or of a file of these."""
    source = LocalText(
        path=str(documents or write_documents(path / "d.jsonl")), val_rule="hash:0.2"
    )
    (path / "documents").mkdir()
    source.documents(path / "documents", show=False)
    source.tokenize(path / "documents", tokenizer, path / "shards", show=False)
    return DataFolder(path / "shards", path / "documents")


def about(data: DataFolder) -> Subject:
    return Subject("run", data.folder, data=data)


@pytest.mark.parametrize("text", HARD)
def test_hard_texts_are_read_as_the_lossless_tokenizer_reads_them(
    text: str, tmp_path: Path
) -> None:
    tokenizer = LosslessCaseOpsTokenizer(vocab_size=320)
    tokenizer.fit([*HARD, *("a few words more to learn pieces from, Again and AGAIN" * 20,)])
    tokenizer.save(tmp_path)
    pieces = read_pieces(tmp_path)
    assert pieces is not None and pieces.identity and pieces.has_case
    ids, counts = tokenizer.encode(text)
    decoded, own = pieces.decode(ids)
    assert decoded == text and own.sum() == counts.sum() == len(text.encode())
    whole = pieces.byte[ids] < 0  # a character in byte pieces is counted with the last of them
    assert np.array_equal(own[whole], counts[whole])


@pytest.mark.parametrize(
    "tokenizer",
    [LosslessCaseOpsTokenizer(vocab_size=340), BytesTokenizer(vocab_size=264)],
    ids=["caseops_lossless", "bytes"],
)
def test_lossless_tokenizers_pass(tokenizer: Any, tmp_path: Path) -> None:
    data = folder_of(tokenizer, tmp_path)
    assert [p.check(about(data)).verdict for p in (RECOUNT, TRIP)] == [PASS, PASS]
    without = DataFolder(data.folder)  # nobody has the raw documents any more
    assert RECOUNT.check(about(without)).verdict == PASS
    assert TRIP.check(about(without)).verdict == UNDECIDED


@pytest.mark.parametrize(
    "tokenizer",
    [SentencePieceTokenizer(vocab_size=340), CaseOpsTokenizer(vocab_size=340)],
    ids=["sp", "caseops"],
)
def test_tokenizers_that_lose_lines_are_refused_though_their_bytes_are_right(
    tokenizer: Any, tmp_path: Path
) -> None:
    data = folder_of(tokenizer, tmp_path)
    assert RECOUNT.check(about(data)).verdict == PASS
    finding = TRIP.check(about(data))
    assert finding.verdict == FAIL
    assert finding.witness["changed"] == finding.witness["documents"] > 10
    assert "\n" in finding.witness["was"] and "\n" not in finding.witness["came_back"]
    noted = RoundTrip(max_documents=None, lossy="note").check(about(data))
    assert noted.verdict == PASS and noted.witness == finding.witness


def test_a_sidecar_is_refused_without_the_raw_documents_too(tmp_path: Path) -> None:
    data = folder_of(SentencePieceTokenizer(vocab_size=340), tmp_path)
    shard = data.manifest.validation.shards[0]
    assert shard.sidecar is not None
    path = data.folder / shard.sidecar.path
    values = np.fromfile(path, "<u2")
    pieces, ids = read_pieces(data.tokenizer), data.tokens("validation")
    assert pieces is not None
    values[512:] += np.array([pieces.has_space(token) for token in ids], np.uint16)
    path.write_bytes(values.tobytes())
    finding = RECOUNT.check(about(DataFolder(data.folder)))
    assert finding.verdict == FAIL and "leading spaces are counted twice" in finding.summary


@pytest.mark.parametrize(
    ("kind", "model", "size"),
    [
        (SentencePieceTokenizer, "fineweb_1024_bpe.model", 1024),
        (SentencePieceTokenizer, "fineweb_8192_bpe.model", 8192),
        (CaseOpsTokenizer, "fineweb_8192_bpe_caseops.model", 8192),
    ],
    ids=["sp1024", "sp8192", "caseops"],
)
def test_published_tokenizers_count_right_on_fineweb(
    kind: Any, model: str, size: int, tmp_path: Path
) -> None:
    lines = (
        (require_reference() / "data/fineweb_val_prefix.jsonl")
        .read_text(encoding="utf-8")
        .splitlines()[:150]
    )
    documents = tmp_path / "fineweb.jsonl"
    documents.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert json.loads(lines[0])["text"]
    tokenizer = kind(vocab_size=size, path=str(require_reference() / "tokenizers" / model))
    data = folder_of(tokenizer, tmp_path, documents)
    finding = RECOUNT.check(about(data))
    assert finding.verdict == PASS, finding
    assert finding.witness["sidecar_bytes"] <= finding.witness["raw_bytes"]
    without = RECOUNT.check(about(DataFolder(data.folder)))
    assert without.verdict == PASS, without


def test_documents_are_read_without_pgolfs_reader(tmp_path: Path) -> None:
    texts = ["one\nline", "", "漢字"]
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    compressed = zstandard.ZstdCompressor().compress(lines.encode())
    (tmp_path / "validation.jsonl.zst").write_bytes(compressed)
    found = DataFolder(tmp_path, tmp_path).texts("validation")
    assert found is not None and list(found) == texts
    assert DataFolder(tmp_path, tmp_path).texts("training") is None
