"""What the three SentencePiece tokenizers share; each rewrites text for its model differently."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from pgolf.errors import UserError
from pgolf.files import sha256_file
from pgolf.tokenizer import grammar, saved
from pgolf.tokenizer.pieces import PieceModel
from pgolf.tokenizer.training import spread, train
from pgolf.tokenizer.words import WordEncoder

MAX_TRAIN_BYTES = 32_000_000


class PieceTokenizer(ABC):
    """A SentencePiece BPE over a reversible rewriting of the text.

    Args:
        vocab_size: number of ids.
        path: a SentencePiece .model file to load instead of training one.
        max_train_bytes: most UTF-8 bytes of text to train on, evenly spread over the corpus (at
            least half of it is used where the corpus has more).
    """

    kind: ClassVar[str]
    # Raised whenever the same text and model would give other ids.
    version: ClassVar[int] = 1
    normalisation: ClassVar[Literal["nmt_nfkc", "identity"]] = "nmt_nfkc"
    symbols: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, vocab_size: int, path: str | None, max_train_bytes: int) -> None:
        self.vocab_size, self.path, self.max_train_bytes = vocab_size, path, max_train_bytes
        self.bos_id = 1
        self._model: PieceModel | None = None
        self._words: WordEncoder | None = None

    def clean(self, text: str) -> str:
        """The document that is encoded; whatever differs from the given one is lost."""
        return text

    @abstractmethod
    def to_model(self, text: str) -> str:
        """What the model is given for a clean document or for some of its words; keeps spaces."""

    @abstractmethod
    def from_model(self, text: str) -> str:
        """The document for what the model gives back."""

    @abstractmethod
    def raw_lengths(self, text: str) -> np.ndarray:
        """Raw UTF-8 bytes that each character of the model's input stands for: uint8[len(text)]."""

    @property
    def fingerprint(self) -> str:
        """Hex sha256 of all that decides ids; there once the tokenizer is fitted or loaded."""
        return saved.fingerprint(self.kind, self.version, self.model.serialized)

    @property
    def model(self) -> PieceModel:
        if self._model is None:
            raise RuntimeError(f"tokenizer {self.kind} is neither fitted nor loaded")
        return self._model

    def check(self) -> None:
        """Raises UserError when the model at `path` cannot be used, before any work starts."""
        if self.max_train_bytes < 1:
            raise UserError(
                f"tokenizer.max_train_bytes={self.max_train_bytes}: expected 1 or more bytes"
            )
        if self.path is not None:
            self._open_path(self.path)

    def cache_key(self) -> dict[str, Any]:
        """What decides the result of `fit` on given texts."""
        key = {"kind": self.kind, "version": self.version, "vocab_size": self.vocab_size}
        if self.path is None:
            return key | {"max_train_bytes": self.max_train_bytes}
        return key | {"model_sha256": sha256_file(_existing(self.path))}

    def fit(self, texts: Iterable[str]) -> None:
        """Train on the texts, or load the model at `path` and leave the texts alone.

        Raises:
            UserError: the texts do not suffice for vocab_size, or `check` would raise.
        """
        if self.path is not None:
            self._use(self._open_path(self.path))
            return
        # A list, as SentencePiece 0.2.0 takes an exception of an iterator for its end.
        chosen = spread(texts, self.max_train_bytes)
        for text in chosen:
            refuse_surrogates(text)
        serialized = train(
            [self.to_model(self.clean(text)) for text in chosen],
            vocab_size=self.vocab_size,
            normalisation=self.normalisation,
            symbols=self.symbols,
        )
        model = PieceModel(serialized, "the trained tokenizer")
        if model.vocab_size < self.vocab_size:
            raise UserError(
                f"tokenizer.vocab_size={self.vocab_size}: the training text suffices for "
                f"{model.vocab_size} pieces only; use scale.vocab_size={model.vocab_size} or "
                "fewer, more text, or tokenizer=bytes"
            )
        self._use(model)

    def save(self, folder: Path) -> None:
        saved.write(folder, self._description(), self.model.serialized)

    def load(self, folder: Path) -> None:
        """Open a saved tokenizer.

        Raises:
            UserError: it is of another kind or size, or damaged.
        """
        found = saved.read(folder)
        serialized = saved.read_model(folder)
        model = PieceModel(serialized, str(folder / saved.MODEL))
        fingerprint = saved.fingerprint(self.kind, self.version, serialized)
        saved.verify(folder, self._description(fingerprint), found)
        self._use(model)

    def encode(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Ids of a document, without BOS, and the raw UTF-8 bytes that each stands for.

        Returns:
            ids uint16[n], raw_bytes uint16[n]. A character in several byte pieces is counted with
            the last of them, what the normaliser drops at either end of the clean document with
            the first or last token: so all bytes are counted, but of documents without a token.

        Raises:
            UserError: the text has a lone surrogate, or white space of over 65,535 bytes that
                the model folds into one token.
        """
        refuse_surrogates(text)
        text = self.clean(text)
        if self.model.folds_lines:
            text = text.replace("\n", " ")
        encoded = self._words.encode(text) if self._words else self.encode_parts([text])[0]
        pairs = np.frombuffer(encoded, dtype=np.uint16).reshape(-1, 2)
        return pairs[:, 0].copy(), pairs[:, 1].copy()

    def encode_parts(self, parts: list[str]) -> list[bytes]:
        """Encode a clean text that is given in parts, all but the first with a space in front.

        Args:
            parts: the space before each of them is a border of `PieceModel.word_border`.

        Returns:
            uint16[n, 2] of each part as bytes: ids and raw bytes.

        Raises:
            UserError: a token stands for too many bytes.
        """
        text = self.to_model("".join(parts))
        ids, borders = self.model.encode(text)
        if len(ids):  # the normaliser drops white space, U+2581 and U+FFFD at the ends
            borders[0], borders[-1] = 0, len(text)
        raw_bytes = np.diff(borders if text.isascii() else self._bytes_before(text)[borders])
        if raw_bytes.max(initial=0) > 0xFFFF:
            raise UserError(
                f"a token of tokenizer={self.kind} stands for {raw_bytes.max():,} bytes, more than "
                "a shard can say (65,535): shorten the document's runs of white space, or use "
                "tokenizer=caseops_lossless"
            )
        pairs = np.empty((len(ids), 2), dtype=np.uint16)
        pairs[:, 0], pairs[:, 1] = ids, raw_bytes
        encoded = pairs.tobytes()
        if len(parts) == 1:
            return [encoded]
        first_tokens = np.searchsorted(borders[:-1], self._starts(parts, text))
        cuts = [0, *(first_tokens * pairs.strides[0]).tolist(), len(encoded)]
        return [encoded[a:b] for a, b in pairwise(cuts)]

    def _bytes_before(self, text: str) -> np.ndarray:
        """Raw bytes before each character of the model's text, and of all: int64[len(text) + 1]."""
        bytes_before = np.zeros(len(text) + 1, dtype=np.int64)
        np.cumsum(self.raw_lengths(text), out=bytes_before[1:])
        return bytes_before

    def _starts(self, parts: list[str], text: str) -> np.ndarray:
        """Where each part but the first begins in the model's text: int64[len(parts) - 1]."""
        # Each of them begins with a space, and few have another one inside.
        spaces = grammar.positions(text, " ")
        if len(spaces) == len(parts) - 1:
            return spaces
        return np.cumsum([len(self.to_model(part)) for part in parts[:-1]], dtype=np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of any ids, BOS left out."""
        return self.from_model(self.model.decode(ids))

    def _description(self, fingerprint: str | None = None) -> saved.Description:
        settings = {
            "vocab_size": self.vocab_size,
            "path": self.path,
            "max_train_bytes": self.max_train_bytes,
        }
        return saved.Description(
            self.kind, settings, self.vocab_size, fingerprint or self.fingerprint
        )

    def _use(self, model: PieceModel) -> None:
        self._model, self.bos_id = model, model.bos_id
        border = model.word_border
        self._words = None if border is None else WordEncoder(border, self.encode_parts)

    def _open_path(self, path: str) -> PieceModel:
        model = PieceModel(_existing(path).read_bytes(), f"tokenizer.path={path}")
        if model.vocab_size != self.vocab_size:
            raise UserError(
                f"tokenizer.path={path} has {model.vocab_size} pieces, tokenizer.vocab_size is "
                f"{self.vocab_size}: use scale.vocab_size={model.vocab_size}"
            )
        missing = [f"U+{ord(symbol):04X}" for symbol in self.symbols if symbol not in model.pieces]
        if missing:
            raise UserError(
                f"tokenizer.path={path} has no pieces for the case controls "
                f"{', '.join(missing)}: give a CaseOps model, or use tokenizer=sp"
            )
        if self.normalisation == "identity" and not model.identity:
            raise UserError(
                f"tokenizer.path={path} normalises its text, so {self.kind} would lose some: give "
                "a model trained with identity normalisation, or use tokenizer=caseops"
            )
        return model


def refuse_surrogates(text: str) -> None:
    """Raises UserError when a text cannot be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        before = text[max(0, error.start - 30) : error.start]
        raise UserError(
            f"a document has a lone surrogate U+{ord(text[error.start]):04X} after {before!r}, "
            "which is no text: replace or drop it"
        ) from None


def vocab_size_of(path: str) -> int:
    """Number of ids of a model; raises UserError when it cannot be used."""
    return PieceModel(_existing(path).read_bytes(), f"tokenizer.path={path}").vocab_size


def _existing(path: str) -> Path:
    if not Path(path).is_file():
        what = "a folder" if Path(path).is_dir() else "no such file"
        raise UserError(
            f"tokenizer.path={path}: {what}; give a SentencePiece .model file, or null to train one"
        )
    return Path(path)
