"""A tokenizer's report: what it makes of a text, which pieces it uses, and what it loses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from pgolf.protocols import Tokenizer
from pgolf.tokenizer import grammar
from pgolf.tokenizer.base import PieceTokenizer
from pgolf.tokenizer.roundtrip import Trip, roundtrip

NUM_PIECES, NUM_FAILURES = 20, 5
CHARS_BEFORE, CHARS_AFTER = 24, 24  # shown around the place where a document comes back changed
CONTROL_NAMES = dict(zip(grammar.CONTROLS, ("TITLE", "ALLCAPS", "CAPNEXT", "ESC"), strict=True))


def survey(tokenizer: Tokenizer, texts: Iterable[str]) -> dict[str, Any]:
    """Encode and decode every document and look at the pieces.

    Returns:
        what `roundtrip` counts, then vocab_size and fingerprint; bytes_per_token; control_share and
        byte_share: parts of all tokens that are case controls, and bytes of characters without a
        piece; ids_in_use: how many; frequent and longest: pieces with their characters, count and
        share of all tokens; failures: the first documents that come back changed, each with the
        first character (from 0) that differs and what stands around it.
    """
    counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    failures: list[dict[str, Any]] = []
    number = -1

    def watch(trip: Trip) -> None:
        nonlocal number
        number += 1
        np.add(counts, np.bincount(trip.ids, minlength=len(counts)), out=counts)
        if trip.decoded != trip.text and len(failures) < NUM_FAILURES:
            failures.append({"document": number, **first_difference(trip.text, trip.decoded)})

    found = roundtrip(tokenizer, texts, watch)
    tokens = max(1, found["tokens"])
    return {
        **found,
        "vocab_size": tokenizer.vocab_size,
        "fingerprint": tokenizer.fingerprint,
        "bytes_per_token": found["bytes"] / tokens,
        **_shares(tokenizer, counts, tokens),
        "ids_in_use": int(np.count_nonzero(counts)),
        **_pieces(tokenizer, counts, tokens),
        "failures": failures,
    }


def first_difference(text: str, decoded: str) -> dict[str, Any]:
    """Where two different texts part, and what stands there in each."""
    shorter = min(len(text), len(decoded))
    # Halving: comparing slices is quick, comparing characters one by one is not.
    same, step = 0, 1 << shorter.bit_length()
    while step:
        if same + step <= shorter and text[same : same + step] == decoded[same : same + step]:
            same += step
        step //= 2
    around = slice(max(0, same - CHARS_BEFORE), same + CHARS_AFTER)
    return {"character": same, "text": shown(text[around]), "decoded": shown(decoded[around])}


def shown(text: str) -> str:
    """A text on one line; characters that cannot be seen are named or escaped."""
    return "".join(map(_shown_character, text))


def _shown_character(character: str) -> str:
    if character in CONTROL_NAMES:
        return f"<{CONTROL_NAMES[character]}>"
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()


def _shares(tokenizer: Tokenizer, counts: np.ndarray, tokens: int) -> dict[str, float]:
    controls = byte_pieces = 0
    if isinstance(tokenizer, PieceTokenizer):
        model = tokenizer.model
        controls = sum(int(counts[i]) for i, p in enumerate(model.pieces) if p in CONTROL_NAMES)
        byte_pieces = int(counts[model.is_byte].sum())
    return {"control_share": controls / tokens, "byte_share": byte_pieces / tokens}


def _pieces(tokenizer: Tokenizer, counts: np.ndarray, tokens: int) -> dict[str, Any]:
    used = np.flatnonzero(counts).tolist()
    chars = {i: _num_chars(tokenizer, i) for i in used}

    def rows(order: list[int]) -> list[dict[str, Any]]:
        return [
            {
                "piece": _name(tokenizer, i),
                "chars": chars[i],
                "count": int(counts[i]),
                "share": int(counts[i]) / tokens,
            }
            for i in order[:NUM_PIECES]
        ]

    return {
        "frequent": rows(sorted(used, key=lambda i: (-counts[i], i))),
        "longest": rows(sorted(used, key=lambda i: (-chars[i], -counts[i], i))),
    }


def _num_chars(tokenizer: Tokenizer, number: int) -> int:
    """Characters that a piece stands for; a control, or a byte of a character, is none."""
    if isinstance(tokenizer, PieceTokenizer):
        piece = tokenizer.model.pieces[number]
        return 0 if piece in CONTROL_NAMES or tokenizer.model.is_byte[number] else len(piece)
    return len(tokenizer.decode([number]))


def _name(tokenizer: Tokenizer, number: int) -> str:
    if isinstance(tokenizer, PieceTokenizer):
        return shown(tokenizer.model.pieces[number])
    text = tokenizer.decode([number])
    return f"id {number}" if not text or "\ufffd" in text else shown(text.replace(" ", "\u2581"))
