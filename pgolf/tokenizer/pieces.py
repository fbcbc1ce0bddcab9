"""A SentencePiece model as pgolf uses it: ids, and where in the text each of them ends.

Uses nothing but `encode`, `decode` and `normalize`, which all releases of SentencePiece 0.2 share.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cached_property

import numpy as np
import sentencepiece

from pgolf.errors import UserError
from pgolf.tokenizer.grammar import SPACE_MARK
from pgolf.tokenizer.model_spec import read_spec

MAX_PIECES = 1 << 16
# Rules that come with SentencePiece; none of them has a sequence with a space inside.
KNOWN_RULES = {"identity", "nfkc", "nfkc_cf", "nmt_nfkc", "nmt_nfkc_cf"}

# What may stand beside a space where a text is cut into words, if a model agrees: printable ASCII,
# Latin, Greek and Cyrillic letters, punctuation, currencies.
EDGES = [*map(chr, (*range(0x21, 0x7F), *range(0xA1, 0x530), *range(0x2010, 0x20C0)))]

# Every kind of change that the usual normalisers make: full-width, ligature, composition, case,
# tab, zero width, runs of spaces, and spaces at both ends.
_PROBE = "  \uff21 \ufb01 e\u0301 \u00ba A\t\u200b  x\n "


class PieceModel:
    """A loaded model.

    Attributes:
        identity: the normaliser changes nothing (but writes a space as U+2581).

    Raises:
        UserError: `serialized` is no model, it has no byte fallback or no BOS, naming `origin`.
    """

    def __init__(self, serialized: bytes, origin: str) -> None:
        self.serialized = serialized
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.load_from_serialized_proto(serialized)
        except RuntimeError as error:
            raise UserError(f"{origin} is no SentencePiece model; give a .model file") from error
        size = self._processor.vocab_size() if serialized else 0
        if not size:
            raise UserError(f"{origin} is no SentencePiece model; give a .model file")
        if size > MAX_PIECES:
            raise UserError(
                f"{origin} has {size:,} pieces, ids are stored as uint16: use a smaller"
            )
        self.pieces = [self._processor.id_to_piece(i) for i in range(size)]
        self.bos_id: int = self._processor.bos_id()
        self._read_byte_pieces(origin)
        if self.bos_id < 0:
            raise UserError(f"{origin} has no BOS piece: every document begins with one")
        self.identity = self._processor.normalize(_PROBE) == _PROBE.replace(" ", SPACE_MARK)

    def _read_byte_pieces(self, origin: str) -> None:
        # Characters of the normalised text that each id covers; a byte piece covers none, the last
        # one of a character is counted in `_covered`.
        self._chars = np.array([len(piece) for piece in self.pieces], dtype=np.int64)
        # Byte that each id stands for, -1 if it is no byte piece.
        self._byte = np.full(len(self.pieces), -1, dtype=np.int64)
        for i, piece in enumerate(self.pieces):
            if self._processor.is_byte(i):
                self._byte[i], self._chars[i] = int(piece[3:5], 16), 0
        if np.count_nonzero(self._byte >= 0) != 256:
            raise UserError(
                f"{origin} has no byte fallback: rare characters would be lost; train the model "
                "with byte_fallback=true"
            )

    @property
    def vocab_size(self) -> int:
        return len(self.pieces)

    @property
    def is_byte(self) -> np.ndarray:
        """Which ids are byte pieces: bool[vocab_size]."""
        return self._byte >= 0

    @cached_property
    def folds_lines(self) -> bool:
        """A new line is the same to the model as a space."""
        return bool(self._processor.normalize("0\n0") == f"0{SPACE_MARK}0")

    @cached_property
    def word_border(self) -> re.Pattern[str] | None:
        """Matches spaces at which a text falls into parts that do not affect each other.

        A piece has the mark of a space in front only, so no merge reaches from before a space to
        it. And no rule of a normaliser does, if characters stand around the space that it neither
        drops nor turns into white space, and that do not combine with a space. None for a model of
        which all that cannot be said.
        """
        spec = read_spec(self.serialized)
        marks_lead = not any(" " in piece or SPACE_MARK in piece[1:] for piece in self.pieces)
        marked = self._processor.normalize("0 0") == f"0{SPACE_MARK}0"
        if not (spec.is_bpe and spec.rules in KNOWN_RULES and marks_lead and marked):
            return None
        if self.identity:
            return re.compile(" ")
        edges = re.escape("".join(filter(self._is_edge, EDGES)))
        # Begins with the space, as the search for a single character is quick.
        return re.compile(f" (?=[{edges}])(?<=[{edges}] )")

    def _is_edge(self, character: str) -> bool:
        becomes = self._processor.normalize(character)
        beside = self._processor.normalize(f"0{character} {character}0")
        is_mark = unicodedata.category(character).startswith("M")
        kept = becomes and SPACE_MARK not in becomes
        return bool(kept) and not is_mark and beside == f"0{becomes}{SPACE_MARK}{becomes}0"

    def encode(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Ids of a text, and the borders of their surfaces.

        The surface of token i is text[borders[i]:borders[i + 1]]; what the normaliser drops at
        either end of the text lies outside of all.

        Returns:
            ids int64[n], borders int64[n + 1] in characters of `text`.
        """
        ids = np.array(self._processor.encode(text, out_type=int), dtype=np.int64)
        borders = np.zeros(len(ids) + 1, dtype=np.int64)
        np.cumsum(self._covered(ids), out=borders[1:])
        if not self.identity and self._processor.normalize(text) != text.replace(" ", SPACE_MARK):
            _, origins = self._processor.normalize(text, with_offsets=True)
            borders = np.array(origins, dtype=np.int64)[borders]
        return ids, borders

    def _covered(self, ids: np.ndarray) -> np.ndarray:
        """Characters of the normalised text that each token ends: int64[n].

        A character in byte pieces is ended by its last one.
        """
        covered = self._chars[ids]
        byte = self._byte[ids]
        if byte.max(initial=-1) < 0:
            return covered
        # A byte that does not continue a character (10xxxxxx) leads one and tells its length.
        leads = np.flatnonzero((byte >= 0) & (byte & 0xC0 != 0x80))
        lead = byte[leads]
        covered[leads + (lead >= 0xC0) + (lead >= 0xE0) + (lead >= 0xF0)] = 1
        return covered

    def decode(self, ids: Iterable[int]) -> str:
        """Text of any ids; BOS and other control pieces stand for nothing."""
        text: str = self._processor.decode(np.asarray(ids, dtype=np.int64).tolist())
        # A model without a piece for the space writes it in byte pieces, which stay as they are.
        return text.replace(SPACE_MARK, " ")
