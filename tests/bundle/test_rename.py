"""Programs whose names are short do the same, whatever their scopes do."""

from __future__ import annotations

import ast
from pathlib import Path

from pgolf.bundle.rename import rename
from tests.bundle.packages import output

PROGRAM = """
from dataclasses import dataclass
from functools import partial

total = 10
rate = 3

@dataclass
class Record:
    total: int
    rate: int = 2

    def scaled(self, factor, *, shift=total):
        return self.total * factor + shift + self.rate

class Base:
    kind = "base"

    def total_of(self, values):
        number = 0
        for value in values:
            number += value
        return number + rate

class Derived(Base):
    def total_of(self, values):
        return super().total_of(values) + 1

def counter():
    count = 0

    def step(by=rate):
        nonlocal count
        count += by
        return count

    return step

def set_rate(new_rate):
    global rate
    rate = new_rate

def mixed(rows):
    sums = [sum(row) for row in rows]  # `sum` is Python's own
    pick = lambda total: total + 1     # another `total` than the module's
    return sums, pick(1), total

def shadow(total=total, *others, **options):
    return total, others, sorted(options.items())

def named(first, second=1):
    return first - second

def caught(value):
    try:
        return 1 / value
    except ZeroDivisionError as problem:
        return type(problem).__name__

def walrus(numbers):
    if any((found := number) > 2 for number in numbers):
        return found
    import math as number_tools
    return number_tools.floor(2.5)

class Guarded:
    def __setattr__(self, name, value):
        assert name.startswith("_") or name == "open", name
        super().__setattr__(name, value)

    def __init__(self):
        self._hidden_value = 1
        self.open = self._told()

    def _told(self):
        return self._hidden_value + 1

class Foreign(dict):
    def _inner(self):
        return len(self)

class Looked:
    _by_text = 3

    def look(self):
        return getattr(self, "_by_text")

class Outer:
    def make(self):
        class Inner:
            size = 4
            def double(self):
                return 2 * self.size
        return Inner().double()

options = {"factor": 2, "shift": 1}
step = counter()
print(Record(3).scaled(**options), Record(total=1, rate=5).scaled(2))
print(Derived().total_of([1, 2]), step(), step(5), Base.kind)
set_rate(7)
print(rate, mixed([[1, 2], [3]]), shadow(), shadow(1, 2, key=3))
print(named(second=5, first=2), partial(named, second=1)(4), caught(0), caught(1))
print(Guarded().open, Foreign(a=1)._inner(), Looked().look())
print(walrus([1, 3]), walrus([1]), Outer().make(), [total for total in range(2)])
"""


def test_a_renamed_program_does_the_same(tmp_path: Path) -> None:
    short = ast.unparse(rename(ast.parse(PROGRAM)))
    assert output(short, tmp_path) == output(PROGRAM, tmp_path)
    gone = ("counter", "new_rate", "numbers", "problem", "count", "rows", "pick", "Record", "by")
    words = {node.id for node in ast.walk(ast.parse(short)) if isinstance(node, ast.Name)}
    assert not words & set(gone), words & set(gone)
    assert "_hidden_value" not in short and "_told" not in short
    assert "_inner" in short and "_by_text" in short


def test_what_calls_or_texts_name_keeps_its_name() -> None:
    source = (
        "def f(width, height, depth, other):\n    return width * height * depth * other\n"
        "print(f(1, height=2, **{'depth': 3, 'other': 4}))\n"
    )
    short = ast.unparse(rename(ast.parse(source)))
    assert "width" not in short and "height=2" in short and "(a, height, depth, other)" in short


def test_short_names_are_none_that_others_use() -> None:
    source = "def f(value, **more):\n    return g(value, a=1, b=more)\n"
    nodes = list(ast.walk(rename(ast.parse(source))))
    names = {node.arg for node in nodes if isinstance(node, ast.arg)}
    assert len(names) == 2 and not {"a", "b", "g", "value", "more"} & names


def test_equal_programs_get_equal_names() -> None:
    assert ast.dump(rename(ast.parse(PROGRAM))) == ast.dump(rename(ast.parse(PROGRAM)))
