"""`tokenizer=sp`: plain SentencePiece BPE, as the published sp1024 and sp8192 models."""

from __future__ import annotations

import numpy as np

from pgolf.tokenizer import grammar
from pgolf.tokenizer.base import MAX_TRAIN_BYTES, PieceTokenizer


class SentencePieceTokenizer(PieceTokenizer):
    """The text as it is to a SentencePiece BPE with `nmt_nfkc`; arguments as in PieceTokenizer.

    White space is folded, so text comes back changed; the raw bytes of a token are those of the
    original text that it stands for.
    """

    kind = "sp"

    def __init__(
        self,
        *,
        vocab_size: int,
        path: str | None = None,
        max_train_bytes: int = MAX_TRAIN_BYTES,
    ) -> None:
        super().__init__(vocab_size=vocab_size, path=path, max_train_bytes=max_train_bytes)

    def to_model(self, text: str) -> str:
        return text

    def from_model(self, text: str) -> str:
        return text

    def raw_lengths(self, text: str) -> np.ndarray:
        return grammar.utf8_lengths(text)
