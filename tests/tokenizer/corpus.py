"""A small made-up corpus, enough for a vocabulary of 512, and text that breaks tokenizers."""

from __future__ import annotations

import random

from hypothesis import strategies as st

SYLLABLES = ("ka", "lo", "mi", "ren", "tos", "vul", "shi", "pra", "den", "o", "est", "ing")


def documents(count: int = 60) -> list[str]:
    """Sentences with capitals, digits, new lines and a few accents; the same each time."""
    rng = random.Random(7)
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 3))) for _ in range(300)]
    words += [word.title() for word in words[:40]] + [word.upper() for word in words[40:60]]
    words += ["iPhone", "McDonald", "1984", "caf\u00e9", "na\u00efve"]
    return [
        ".\n".join(" ".join(rng.choices(words, k=8)) for _ in range(rng.randint(3, 9)))
        for _ in range(count)
    ]


NASTY = (
    "\ue001\ue002\ue003\ue004\ue005\u2581 \t\n\r\v\f\0\x01\x1c\x7f\x85\xa0\u2028\u200b\ufeff\ufffd"
    "aAbBzZ0\u00e9e\u0301\u00ba\u0130\u0131\u00df\ufb01\uff21\u65e5\U0001f642\U0010ffff<>/_"
)
# Any text that has a UTF-8 form, with much that case factoring and SentencePiece treat specially.
texts = st.text(
    st.one_of(st.sampled_from(NASTY), st.characters(exclude_categories=["Cs"])), max_size=60
)
TRICKY = (
    "", " ", "  ", "\n", "\r\n", "\0", "\u2581", "\u2581\u2581 \u2581", " \u2581a", "\ue004",
    "\ue004\ue004", "\ue004\u2581", "\ue004 ", "\ue001a", "a\ue002", "\ue003\ue003B", "A", "AB",
    "Ab", "aB", "USAmade", "iOS", "McDONALD's", "  lead and trail  ", "a\tb\x0bc", "<s>", "</s>",
    "<unk>", "<0x41>", "\u00c9COLE", "e\u0301", "\ufeffBOM", "\ufb01 \uff21 \u00ba",
    "\U0001f468\u200d\U0001f469",
)  # fmt: skip
