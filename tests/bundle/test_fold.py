"""What follows from known values, and what must stay although it looks as if it followed."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest

from pgolf.bundle.fold import Known, fold
from pgolf.bundle.scopes import BundleError


def folded(source: str, checkers: tuple[str, ...] = (), **values: Any) -> str:
    """With dots in place of double underlines of the names of values."""
    known = Known({key.replace("__", "."): value for key, value in values.items()}, (), checkers)
    text, unmet = fold(dedent(source), known)
    assert not unmet
    return text


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("x == 'a' or f()", "True"),
        ("x == 'b' or f()", "f()"),
        ("x != 'a' and f()", "False"),
        ("not x == 'a'", "False"),
        ("x in ('a', 'b')", "True"),
        ("x is None", "False"),
        ("g() if x == 'a' else h()", "g()"),
        ("f() and x == 'b'", "f() and False"),  # f is called, and its value may be the result
        ("f() or x == 'b'", "f() or False"),
        ("x < 'b'", "'a' < 'b'"),
    ],
)
def test_expressions(expression: str, result: str) -> None:
    assert folded(f"y = {expression}", x="a") == f"y = {result}\n"


def test_conditions_count_as_truth_alone() -> None:
    source = """
        if a and x:
            f()
        if a or x:
            g()
        if a() or x:
            h()
        """
    assert folded(source, x=True) == "if a:\n    f()\ng()\nif a() or True:\n    h()\n"


def test_branches_and_what_follows_an_end() -> None:
    source = """
        def f(y):
            if self.mode == 'fast':
                return y
            z = slow(y)
            return z

        def g(y):
            if self.mode != 'fast':
                slow(y)
            elif y:
                quick(y)
        """
    text = folded(source, self__mode="fast")
    assert "slow" not in text and "if y:\n        quick(y)" in text


def test_an_assigned_name_is_no_value() -> None:
    assert folded("x = 1\nprint(x)", x=2) == "x = 1\nprint(2)\n"


def test_calls_and_statements() -> None:
    source = """
        def run(self):
            log('begins')
            self.a: int = 1
            self.b += 2
            check(1, 2)
            return size(self)

        def check(x, y):
            pass
        """
    dropped = ("log('begins')", "self.a = 1", "self.b += 2", "check(...)", "def check")
    text, unmet = fold(dedent(source), Known({"size(...)": 3}, (*dropped, "nothing(1)")))
    assert text == "def run(self):\n    return 3\n" and unmet == {"nothing(1)"}


def test_checks_of_settings_and_asserts_go_but_no_others() -> None:
    source = """
        class A:
            def __init__(self, x):
                for key in (x, 1):
                    if key < 0:
                        raise ValueError(x)
                if x > 1:
                    raise ValueError(x)
                self.x = x

            def read(self, y):
                assert y
                if y > 1:
                    raise ValueError(y)

        def told(z):
            if z:
                raise ValueError(z)
        """
    text = folded(source, checkers=("told",))
    assert text.count("raise") == 1 and "raise ValueError(y)" in text and "for" not in text
    assert "assert" not in text and "self.x = x" in text
    compile(text, "folded", "exec")


def test_an_error_that_only_becomes_another_stays_what_it_is() -> None:
    source = """
        try:
            f()
        except OSError as error:
            raise ValueError(1) from error
        try:
            g()
        except OSError:
            h()
        try:
            k()
        except OSError as error:
            raise ValueError(1) from error
        finally:
            m()
        """
    text = folded(source)
    assert text.startswith("f()\ntry:\n    g()\nexcept OSError:\n    h()\n")
    assert text.endswith("try:\n    k()\nfinally:\n    m()\n")


def test_a_generator_stays_one() -> None:
    with pytest.raises(BundleError, match="yields"):
        folded("def f():\n    if x:\n        return\n    yield 1", x=True)
