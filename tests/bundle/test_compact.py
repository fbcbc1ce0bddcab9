"""Compact text has the syntax tree of its original, in no more characters than it needs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from pgolf.bundle.compact import compact
from pgolf.pack.script import ROOT


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = (a, b)\ny = 1", "x=a,b;y=1"),
        ("def f():\n    a = 1\n    return (a, *b)", "def f():a=1;return a,*b"),
        ("x = (a, b)[0]", "x=(a,b)[0]"),
        ("x = (a for a in (b, c))", "x=(a for a in(b,c))"),
        ("x = (yield (a, b))", "x=(yield(a,b))"),
        ("x = (a,)", "x=a,"),
        ("x: t = (a, b)", "x:t=(a,b)"),
        ("f(x=(a, b))", "f(x=(a,b))"),
        ("x = y = (a, b)", "x=y=(a,b)"),
        ("x[1:2] = (a, b)", "x[1:2]=(a,b)"),
        ("x = ()", "x=()"),
        ("if a:\n    b\nelse:\n    c\nd", "if a:b\nelse:c\nd"),
        ("if a:\n    if b:\n        c\nelse:\n    d", "if a:\n if b:c\nelse:d"),
        ("if a:\n    b\n    if c:\n        d\n    e", "if a:\n b\n if c:d\n e"),
        ("for x in y:\n    pass\nelse:\n    z", "for x in y:pass\nelse:z"),
        ("@d\ndef f():\n    pass\n\n\nx = 1", "@d\ndef f():pass\nx=1"),
        ("x = f'{a} {{}} {b!r:>{c}}' if d else 'e'", "x=f'{a} {{}} {b!r:>{c}}'if d else'e'"),
        ("x = '' in '' or 1 in r'a'", "x=''in''or 1 in r'a'"),
        ("x = lambda: (a, b)", "x=lambda:(a,b)"),
        ("x = 1 if a else 2", "x=1 if a else 2"),
        ("x = '''a\n  b'''\ny = 1", "x='''a\n  b''';y=1"),
    ],
)
def test_what_is_written(source: str, expected: str) -> None:
    assert ast.dump(ast.parse(compact(source))) == ast.dump(ast.parse(source))
    assert compact(source) == f"{expected}\n"


@pytest.mark.parametrize("folder", ["bundle", "kernel", "quant", "train"])
def test_pgolf_itself_stays_the_same(folder: str) -> None:
    for path in sorted(Path(ROOT, "pgolf", folder).rglob("*.py")):
        source = ast.unparse(ast.parse(path.read_text()))
        assert ast.dump(ast.parse(compact(source))) == ast.dump(ast.parse(source)), path
