"""Case factoring: capitals become private-use controls before lower-case words (PR #1729, CaseOps).

Over every maximal run of ASCII letters: `word` stays, `Word` and `W` become TITLE + lower case,
`WORD` (two letters or more) ALLCAPS + lower case, and in mixed runs such as `McDonald` TITLE or
CAPNEXT stands before each capital. A literal control, and any other character that a tokenizer asks
to have escaped, becomes ESC + itself. Only ASCII letters change, so `unfactor` undoes it exactly.
"""

from __future__ import annotations

import functools
import re

import numpy as np

TITLE, ALLCAPS, CAPNEXT, ESC = CONTROLS = ("\ue001", "\ue002", "\ue003", "\ue004")
# What SentencePiece writes for a space; a literal one would come back as a space.
SPACE_MARK = "\u2581"

# A run that begins with a capital is matched whole (group 1), inner capitals of others one by one.
_CAPITALS = re.compile(r"(?<![A-Za-z])([A-Z][A-Za-z]*)|[A-Z]")
_CONTROLS = re.compile(f"[{''.join(CONTROLS)}]")
_CONTROLS_AND_MARK = re.compile(f"[{''.join(CONTROLS)}{SPACE_MARK}]")
_FACTORED = re.compile(
    rf"{ESC}(?P<escaped>.?)|{ALLCAPS}(?P<all>[a-z]*)|[{TITLE}{CAPNEXT}](?P<next>[a-z]?)", re.DOTALL
)


def factor(text: str, escape_mark: bool = False) -> str:
    """The text with its ASCII capitals factored out and literal controls escaped.

    Args:
        escape_mark: escape U+2581 as well.
    """
    if not text.isascii():
        text = (_CONTROLS_AND_MARK if escape_mark else _CONTROLS).sub(rf"{ESC}\g<0>", text)
    return _CAPITALS.sub(_factor_match, text)


def _factor_match(match: re.Match[str]) -> str:
    run = match[1]
    return _factor_run(run) if run else CAPNEXT + match[0].lower()


@functools.lru_cache(maxsize=1 << 16)
def _factor_run(run: str) -> str:
    """A run of ASCII letters that begins with a capital."""
    rest = run[1:]
    if not rest or rest.islower():
        return TITLE + run.lower()
    if run.isupper():
        return ALLCAPS + run.lower()
    inner = (CAPNEXT + letter.lower() if letter.isupper() else letter for letter in rest)
    return TITLE + run[0].lower() + "".join(inner)


def unfactor(encoded: str) -> str:
    """The text that `factor` was given, with ESC + space (how a model gives it back) as U+2581.

    A model can produce any sequence of tokens, so this never fails: a control that has no letter
    after it, or an ESC at the end, stands for nothing.
    """
    return _FACTORED.sub(_unfactor_match, encoded)


def _unfactor_match(match: re.Match[str]) -> str:
    escaped = match["escaped"]
    if escaped is None:
        return (match["all"] or match["next"] or "").upper()
    return SPACE_MARK if escaped == " " else escaped


def positions(text: str, character: str) -> np.ndarray:
    """Where a character stands in a text: int64[number of times]."""
    return np.flatnonzero(_codes(text) == ord(character))


def utf8_lengths(text: str) -> np.ndarray:
    """UTF-8 bytes of each character: uint8[len(text)]."""
    return _lengths(_codes(text))


def raw_lengths(encoded: str) -> np.ndarray:
    """Raw UTF-8 bytes that each character of a factored text stands for: uint8[len(encoded)].

    Controls stand for none, an escaped character for its own.
    """
    codes = _codes(encoded)
    lengths = _lengths(codes)
    controls = np.flatnonzero((codes >= ord(TITLE)) & (codes <= ord(ESC)))
    lengths[controls] = 0
    escaped = -1
    for position in controls[codes[controls] == ord(ESC)].tolist():
        if position != escaped and position + 1 < len(codes):
            escaped = position + 1
            lengths[escaped] = len(encoded[escaped].encode())
    return lengths


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")


def _lengths(codes: np.ndarray) -> np.ndarray:
    lengths = np.ones(len(codes), dtype=np.uint8)
    for first in (0x80, 0x800, 0x10000):
        lengths += codes >= first
    return lengths
