"""Minified and wrapped programs do the same as their originals, in fewer bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgolf.bundle.minify import minify, wrap
from tests.bundle.packages import output

PROGRAM = '''
"""A program."""
from __future__ import annotations
import inspect
from dataclasses import dataclass
from typing import NamedTuple

@dataclass
class Point:
    """A point."""
    x: int
    y: int = 2

    def moved(self, by: int) -> Point:
        """Further."""
        there: Point
        there = Point(self.x + by, self.y)
        return there

class Pair(NamedTuple):
    left: int
    right: int = 3

class Empty:
    """Only words."""

def f(text: str = """two
    lines""") -> str:
    "Docstring."
    count: int = 0
    for letter in text:
        # A comment.
        if letter == "\\n":
            count += 1
    return f"{count} {text!r}"

print(Point(1).moved(4), Pair(1), f(), Empty.__name__, len(inspect.getsource(f)) > 0)
'''


def test_a_minified_program_does_the_same(tmp_path: Path) -> None:
    short = minify(PROGRAM)
    assert output(short, tmp_path) == output(PROGRAM, tmp_path)
    for word in ("Docstring", "comment", "Only words", "-> str", "count: int", "\n    "):
        assert word not in short, word
    assert "x: int" in short and "right: int" in short  # fields


def test_annotations_that_a_compiler_reads_stay() -> None:
    source = (
        "@triton.jit\ndef k(x, N: tl.constexpr):\n    M: tl.constexpr = 2 * N\n    return M\n"
        "def g(x: int) -> int:\n    y: int = x\n    return y\n"
    )
    short = minify(source)
    assert "N: tl.constexpr" in short and "M: tl.constexpr" in short and "int" not in short


@pytest.mark.parametrize("codec", ["lzma", "brotli"])
def test_a_wrapped_program_does_the_same(codec: str, tmp_path: Path) -> None:
    source = PROGRAM + "\n" + "".join(f"value_{i} = {i}\n" for i in range(300))
    short = wrap(source, codec)
    assert output(short, tmp_path) == output(source, tmp_path)
    assert len(short) < len(source) / 2


def test_equal_programs_are_equal_bytes() -> None:
    assert wrap(PROGRAM, "lzma") == wrap(PROGRAM, "lzma")
