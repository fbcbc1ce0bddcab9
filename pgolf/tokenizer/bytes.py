"""`tokenizer=bytes`: one id a byte, nothing to train."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pgolf.errors import UserError
from pgolf.tokenizer import saved

KIND, VERSION = "bytes", 1
BOS = 256


class BytesTokenizer:
    """Ids 0 to 255 are UTF-8 bytes, 256 is BOS; exact for every text.

    Args:
        vocab_size: at least 257; ids from 257 on are not used (a multiple of 8 suits the hardware).
    """

    def __init__(self, *, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.bos_id = BOS

    @property
    def fingerprint(self) -> str:
        """Hex sha256 of all that decides ids."""
        return saved.fingerprint(KIND, VERSION)

    def check(self) -> None:
        """Raises UserError when the vocabulary does not hold 256 bytes and BOS."""
        if self.vocab_size <= BOS:
            raise UserError(
                f"tokenizer.vocab_size={self.vocab_size}: 256 bytes and BOS need 257 or more; use "
                "scale.vocab_size=264"
            )

    def cache_key(self) -> dict[str, Any]:
        return {"kind": KIND, "version": VERSION, "vocab_size": self.vocab_size}

    def fit(self, texts: Iterable[str]) -> None:
        """Nothing is learned: the texts are left alone."""
        self.check()

    def save(self, folder: Path) -> None:
        saved.write(folder, self._description())

    def load(self, folder: Path) -> None:
        """Raises UserError when the folder holds another tokenizer."""
        saved.verify(folder, self._description(), saved.read(folder))

    def encode(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Ids uint16[n], without BOS, and the raw bytes of each, all 1: uint16[n].

        A lone surrogate, which is no text and has no UTF-8 form, is kept as three bytes.
        """
        raw = np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8)
        return raw.astype(np.uint16), np.ones(len(raw), dtype=np.uint16)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of any ids: those from BOS on stand for nothing, what is no UTF-8 for U+FFFD."""
        values = np.asarray(ids, dtype=np.int64)
        raw = values[values < BOS].astype(np.uint8).tobytes()
        try:
            return raw.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return raw.decode("utf-8", "replace")

    def _description(self) -> saved.Description:
        settings = {"vocab_size": self.vocab_size}
        return saved.Description(KIND, settings, self.vocab_size, self.fingerprint)
