"""A minified program does the same as its original, in fewer bytes."""

from __future__ import annotations

from pathlib import Path

from pgolf.bundle.minify import minify
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

print(Point(1).moved(4).x, tuple(Pair(1)), f(), Empty() is None, len(inspect.getsource(f)) > 0)
'''


def test_a_minified_program_does_the_same(tmp_path: Path) -> None:
    short = minify(PROGRAM)
    assert output(short, tmp_path) == output(PROGRAM, tmp_path)
    for word in ("Docstring", "comment", "Only words", "->", "count:int", "\n    "):
        assert word not in short, word
    assert "x:int" in short and "right:int=3" in short  # fields


def test_annotations_that_a_compiler_reads_stay() -> None:
    source = (
        "@triton.jit\ndef k(x, N: tl.constexpr):\n    M: tl.constexpr = 2 * N\n    return M\n"
        "def g(x: int) -> int:\n    y: int = x\n    return y\n"
    )
    short = minify(source)
    assert short.count(":tl.constexpr") == 2 and "int" not in short


def test_errors_say_less_but_stay_errors(tmp_path: Path) -> None:
    source = (
        "def f(x):\n    if x > 1:\n        raise ValueError(f'much too large: {x}, lower it')\n"
        "try:\n    f(2)\n"
        "except ValueError as error:\n    print(type(error).__name__, len(str(error)))\n"
    )
    assert output(minify(source), tmp_path) == "ValueError 16\n"
