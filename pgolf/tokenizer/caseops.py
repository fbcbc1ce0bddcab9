"""`tokenizer=caseops`: the published CaseOps tokenizer (PR #1729, `lossless_caps_caseops_v1`).

Compatible with the published shards. In spite of its name it loses text: the published models
normalise with `nmt_nfkc` and fold white space, so that new lines become spaces.
"""

from __future__ import annotations

import numpy as np

from pgolf.tokenizer import grammar
from pgolf.tokenizer.base import MAX_TRAIN_BYTES, PieceTokenizer


class CaseOpsTokenizer(PieceTokenizer):
    """NUL to space, strip, case factoring, then SentencePiece BPE; arguments as in PieceTokenizer.

    The bytes of a document are those after NUL to space and strip, as published.
    """

    kind = "caseops"
    symbols = grammar.CONTROLS

    def __init__(
        self,
        *,
        vocab_size: int,
        path: str | None = None,
        max_train_bytes: int = MAX_TRAIN_BYTES,
    ) -> None:
        super().__init__(vocab_size=vocab_size, path=path, max_train_bytes=max_train_bytes)

    def clean(self, text: str) -> str:
        return text.replace("\0", " ").strip()

    def to_model(self, text: str) -> str:
        return grammar.factor(text)

    def from_model(self, text: str) -> str:
        return grammar.unfactor(text)

    def raw_lengths(self, text: str) -> np.ndarray:
        return grammar.raw_lengths(text)
