"""Encoding a text word by word, each different word once.

Natural text repeats its words, and a BPE model never joins anything across the space before a word
unless it has a piece for that. So the encoding of a text is that of its words, one after the other,
and looking words up is several times as fast as SentencePiece.
"""

from __future__ import annotations

import re
from collections.abc import Callable

# Keys and values that are remembered; about a quarter of a million words of English.
MAX_BYTES = 64_000_000
BYTES_PER_WORD = 200  # what Python needs besides the characters
START = " "  # before the first word of a text; no other word begins with it


class WordEncoder:
    """Remembers how words are encoded, and forgets all of them when there are too many.

    Args:
        border: matches spaces at which a text may be cut: it falls into words, all but the first
            with a space before them.
        encode_parts: encodes the parts of a text together, in one go, and gives each part's share.
        max_bytes: memory for what is remembered, about.
    """

    def __init__(
        self,
        border: re.Pattern[str],
        encode_parts: Callable[[list[str]], list[bytes]],
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._border, self._encode_parts = border, encode_parts
        self._known: dict[str, bytes] = {}
        self._max_bytes, self._num_bytes = max_bytes, 0

    def encode(self, text: str) -> bytes:
        """What `encode_parts([text])[0]` is."""
        words = self._border.split(text)
        if len(words) == 1:
            return self._encode_parts(words)[0]
        # Another thread may begin to forget meanwhile; this one keeps the words that it saw.
        known = self._known
        words[0] = START + words[0]
        missing = set(words).difference(known)
        if missing:
            # The ends of a text lose white space, so they have to be the ends here, too.
            missing -= {words[0], words[-1]}
            self._learn(known, [words[0], *missing, words[-1]])
        encoded = b"".join(map(known.__getitem__, words))
        if self._num_bytes > self._max_bytes:
            self._known, self._num_bytes = {}, 0
        return encoded

    def _learn(self, known: dict[str, bytes], words: list[str]) -> None:
        first, *others = words
        parts = [first.removeprefix(START), *(f" {word}" for word in others)]
        found = self._encode_parts(parts)
        known.update(zip(words, found, strict=True))
        self._num_bytes += sum(map(len, words)) + sum(map(len, found))
        self._num_bytes += BYTES_PER_WORD * len(found)
