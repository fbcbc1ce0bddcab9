"""Tokenizers that several test files use, trained once."""

from __future__ import annotations

import pytest

from pgolf.tokenizer.caseops import CaseOpsTokenizer
from pgolf.tokenizer.caseops_lossless import LosslessCaseOpsTokenizer
from pgolf.tokenizer.sp import SentencePieceTokenizer
from tests.tokenizer.corpus import documents


@pytest.fixture(scope="session")
def caseops() -> CaseOpsTokenizer:
    tokenizer = CaseOpsTokenizer(vocab_size=512)
    tokenizer.fit(documents())
    return tokenizer


@pytest.fixture(scope="session")
def lossless() -> LosslessCaseOpsTokenizer:
    tokenizer = LosslessCaseOpsTokenizer(vocab_size=512)
    tokenizer.fit(documents())
    return tokenizer


@pytest.fixture(scope="session")
def sp() -> SentencePieceTokenizer:
    tokenizer = SentencePieceTokenizer(vocab_size=512)
    tokenizer.fit(documents())
    return tokenizer
