"""Every text comes back, and its bytes are counted exactly."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import example, given, settings

from pgolf.data.documents import read_documents
from pgolf.errors import UserError
from pgolf.tokenizer.caseops import CaseOpsTokenizer
from pgolf.tokenizer.caseops_lossless import LosslessCaseOpsTokenizer
from pgolf.tokenizer.roundtrip import roundtrip
from tests.reference import require_reference
from tests.tokenizer.corpus import TRICKY, documents, texts


def assert_exact(tokenizer: LosslessCaseOpsTokenizer, text: str) -> None:
    ids, raw_bytes = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(ids) == len(raw_bytes)
    assert int(raw_bytes.sum()) == len(text.encode())


@given(texts)
@example("\ue004\u2581\ue004 \u2581")
@settings(max_examples=300, deadline=None)
def test_any_text_is_exact(lossless: LosslessCaseOpsTokenizer, text: str) -> None:
    assert_exact(lossless, text)


@pytest.mark.parametrize("text", TRICKY)
def test_tricky_text_is_exact(lossless: LosslessCaseOpsTokenizer, text: str) -> None:
    assert_exact(lossless, text)
    assert_exact(lossless, text * 3)


def test_every_character_is_exact(lossless: LosslessCaseOpsTokenizer) -> None:
    for start in range(0, 0x110000, 0x1000):
        codes = (c for c in range(start, start + 0x1000) if not 0xD800 <= c < 0xE000)
        # All planes are alike but the first two and the last.
        if start < 0x20000 or start >= 0x10F000:
            assert_exact(lossless, "".join(map(chr, codes)))


def test_bytes_of_each_prefix_of_tokens_lie_on_its_text(lossless: LosslessCaseOpsTokenizer) -> None:
    text = "Caf\u00e9 \u2581 NASA\n \ue001\U0001f642 iPhone\u2581s"
    ids, raw_bytes = lossless.encode(text)
    raw = text.encode()
    for end in range(len(ids) + 1):
        prefix = lossless.decode(ids[:end])
        counted = int(raw_bytes[:end].sum())
        if "\ufffd" not in prefix:  # else it ends inside a character
            assert prefix.encode() == raw[:counted]


def test_new_lines_join_pieces(lossless: LosslessCaseOpsTokenizer) -> None:
    assert ".\n" in lossless.model.pieces
    assert len(lossless.encode("x.\n")[0]) < 1 + len(lossless.encode("x.")[0])


def test_model_without_a_space_is_exact() -> None:
    tokenizer = LosslessCaseOpsTokenizer(vocab_size=270)
    tokenizer.fit(["abcabcabd" * 30])
    assert "\u2581" not in tokenizer.model.pieces
    for text in ("a b", " \u2581 ", "abc\n"):
        assert_exact(tokenizer, text)


def test_case_controls_cost_no_bytes(lossless: LosslessCaseOpsTokenizer) -> None:
    ids, raw_bytes = lossless.encode("NASA")
    assert lossless.model.pieces[ids[0]] == "\ue002" and raw_bytes[0] == 0
    assert int(raw_bytes.sum()) == 4


def test_lone_surrogate_is_refused(lossless: LosslessCaseOpsTokenizer) -> None:
    with pytest.raises(UserError, match=r"U\+D83D after 'a'"):
        lossless.encode("a\ud83d b")
    with pytest.raises(UserError, match="lone surrogate"):
        LosslessCaseOpsTokenizer(vocab_size=512).fit(["a\ud83d b"])


def test_model_that_normalises_is_refused(caseops: CaseOpsTokenizer, tmp_path: Path) -> None:
    caseops.save(tmp_path)
    path = str(tmp_path / "tokenizer.model")
    with pytest.raises(UserError, match="tokenizer=caseops"):
        LosslessCaseOpsTokenizer(vocab_size=512, path=path).check()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["fineweb_verify_docs.jsonl", "fineweb_val_prefix.jsonl", "train_docs.jsonl.zst"]
)
def test_real_text_is_exact(lossless: LosslessCaseOpsTokenizer, name: str) -> None:
    path = require_reference() / "data" / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    found = roundtrip(lossless, read_documents(path))
    assert found["exact"] == found["documents"] > 100
    assert found["counted_bytes"] == found["bytes"]


@pytest.mark.slow
def test_losing_nothing_costs_no_tokens() -> None:
    folder = require_reference() / "data"
    training, held_out = folder / "train_docs.jsonl.zst", folder / "fineweb_verify_docs.jsonl"
    if not (training.is_file() and held_out.is_file()):
        pytest.skip(f"needs {training} and {held_out}")
    texts = list(itertools.islice(read_documents(training), 1500))
    tokens = []
    for kind in (CaseOpsTokenizer, LosslessCaseOpsTokenizer):
        tokenizer = kind(vocab_size=4096)
        tokenizer.fit(texts)
        tokens.append(roundtrip(tokenizer, read_documents(held_out))["tokens"])
    assert tokens[1] <= tokens[0]


def test_training_twice_gives_the_same_model(lossless: LosslessCaseOpsTokenizer) -> None:
    again = LosslessCaseOpsTokenizer(vocab_size=512)
    again.fit(iter(documents()))
    assert again.fingerprint == lossless.fingerprint
