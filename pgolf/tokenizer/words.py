"""Encoding a text word by word, each different word once.

Natural text repeats its words, and a BPE model never joins anything across the space before a word
unless it has a piece for that. So the encoding of a text is that of its words, one after the other,
and looking words up is several times as fast as SentencePiece.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

# A text is looked up in parts of about so many characters, as lists of words take many times the
# memory of the text.
PART_CHARS = 1 << 18
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
        part_chars: characters of a text whose words are in memory at a time, about.
    """

    def __init__(
        self,
        border: re.Pattern[str],
        encode_parts: Callable[[list[str]], list[bytes]],
        max_bytes: int = MAX_BYTES,
        part_chars: int = PART_CHARS,
    ) -> None:
        self._border, self._encode_parts = border, encode_parts
        self._known: dict[str, bytes] = {}
        self._max_bytes, self._num_bytes = max_bytes, 0
        self._part_chars = part_chars

    def encode(self, text: str) -> bytes:
        """What `encode_parts([text])[0]` is."""
        split, parts = self._border.split, list(self._parts(text))
        tail = split(parts[-1])
        if len(parts) == len(tail) == 1:
            return self._encode_parts(tail)[0]
        head = tail if len(parts) == 1 else split(parts[0])
        head[0] = START + head[0]
        ends = head[0], tail[-1]
        encoded = [self._look_up(head, *ends)]
        encoded += (self._look_up(split(part), *ends) for part in parts[1:-1])
        encoded += [] if head is tail else [self._look_up(tail, *ends)]
        return b"".join(encoded)

    def _parts(self, text: str) -> Iterator[str]:
        """Runs of whole words, without the border between them."""
        start = 0
        while found := self._border.search(text, start + self._part_chars):
            yield text[start : found.start()]
            start = found.end()
        yield text[start:]

    def _look_up(self, words: list[str], first: str, last: str) -> bytes:
        """Ids and bytes of some words of the text that has these words at its ends."""
        # Another thread may begin to forget meanwhile; this one keeps the words that it saw.
        known = self._known
        missing = set(words).difference(known)
        if missing:
            # The ends of a text lose white space, so they have to be the ends here, too.
            self._learn(known, [first, *(missing - {first, last}), last])
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
