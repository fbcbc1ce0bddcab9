"""Case factoring against a second implementation that goes character by character."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgolf.tokenizer.grammar import (  # fmt: skip
    ALLCAPS,
    CAPNEXT,
    CONTROLS,
    ESC,
    TITLE,
    factor,
    raw_lengths,
    unfactor,
    utf8_lengths,
)
from tests.tokenizer.corpus import TRICKY, texts


def slow_factor(text: str) -> tuple[str, list[int]]:
    """Factored text and the raw bytes of each of its characters, from the written rules."""
    out: list[tuple[str, int]] = []
    i = 0
    while i < len(text):
        if text[i] not in string.ascii_letters:
            if text[i] in CONTROLS:
                out.append((ESC, 0))
            out.append((text[i], len(text[i].encode())))
            i += 1
            continue
        end = i
        while end < len(text) and text[end] in string.ascii_letters:
            end += 1
        run, i = text[i:end], end
        if len(run) >= 2 and run.isupper():
            out.append((ALLCAPS, 0))
            out.extend((letter.lower(), 1) for letter in run)
            continue
        for position, letter in enumerate(run):
            if letter.isupper():
                out.append((CAPNEXT if position else TITLE, 0))
            out.append((letter.lower(), 1))
    return "".join(character for character, _ in out), [size for _, size in out]


letters = st.text(st.sampled_from("aAbBzZ '.\ue001\ue004\u00e9"), max_size=30)


@given(st.one_of(letters, texts))
def test_factor_equals_slow_reference(text: str) -> None:
    encoded, sizes = slow_factor(text)
    assert factor(text) == encoded
    assert raw_lengths(encoded).tolist() == sizes
    assert sum(sizes) == len(text.encode())


@given(st.one_of(letters, texts))
def test_unfactor_undoes_factor(text: str) -> None:
    # Without an escaped mark ESC + space cannot occur, so both forms are undone by one function.
    assert unfactor(factor(text)) == text
    assert unfactor(factor(text, escape_mark=True).replace("\u2581", " ")) == text


@given(st.text(st.sampled_from("".join(CONTROLS) + "aB\n\u2581 ")))
def test_unfactor_takes_any_sequence(encoded: str) -> None:
    assert isinstance(unfactor(encoded), str)
    assert len(raw_lengths(encoded)) == len(encoded)


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("word", "word"),
        ("I", f"{TITLE}i"),
        ("Word", f"{TITLE}word"),
        ("NASA's", f"{ALLCAPS}nasa's"),
        ("McDonald", f"{TITLE}mc{CAPNEXT}donald"),
        ("iPHone", f"i{CAPNEXT}p{CAPNEXT}hone"),
        ("USAmade", f"{TITLE}u{CAPNEXT}s{CAPNEXT}amade"),
        ("\u00c9cole", "\u00c9cole"),
        ("\ue001", f"{ESC}\ue001"),
    ],
)
def test_factor_of_words(text: str, encoded: str) -> None:
    assert factor(text) == encoded


@pytest.mark.parametrize("text", TRICKY)
def test_utf8_lengths_are_those_of_python(text: str) -> None:
    assert utf8_lengths(text).tolist() == [len(character.encode()) for character in text]
