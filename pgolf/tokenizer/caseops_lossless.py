"""`tokenizer=caseops_lossless`: case factoring that gives back every text exactly."""

from __future__ import annotations

import numpy as np

from pgolf.tokenizer import grammar
from pgolf.tokenizer.base import MAX_TRAIN_BYTES, PieceTokenizer


class LosslessCaseOpsTokenizer(PieceTokenizer):
    """Case factoring, then SentencePiece BPE that changes nothing; arguments as in PieceTokenizer.

    decode(encode(text)) == text, and the raw bytes of the tokens sum to the UTF-8 length, for every
    text without lone surrogates. U+2581, which SentencePiece cannot tell from a space, is escaped.
    """

    kind = "caseops_lossless"
    normalisation = "identity"
    symbols = grammar.CONTROLS

    def __init__(
        self,
        *,
        vocab_size: int,
        path: str | None = None,
        max_train_bytes: int = MAX_TRAIN_BYTES,
    ) -> None:
        super().__init__(vocab_size=vocab_size, path=path, max_train_bytes=max_train_bytes)

    def to_model(self, text: str) -> str:
        return grammar.factor(text, escape_mark=True)

    def from_model(self, text: str) -> str:
        return grammar.unfactor(text)

    def raw_lengths(self, text: str) -> np.ndarray:
        return grammar.raw_lengths(text)
