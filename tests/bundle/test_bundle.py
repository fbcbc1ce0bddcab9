"""Several modules as one file: imports, names that collide, and what is dropped."""

from __future__ import annotations

import pytest

from pgolf.bundle.scopes import BundleError
from tests.bundle.packages import bundled, value

HEAD = "from __future__ import annotations\n"


def test_functions_of_one_name_are_kept_apart() -> None:
    made = bundled(
        {
            "a": "def _scale(x): return 2 * x\ndef double(x): return _scale(x)",
            "b": "from p.a import double\ndef _scale(x): return 3 * x\n"
            "def six(x): return _scale(double(x))",
        },
        "b.six",
    )
    assert value(made, "b.six")(5) == 30


def test_a_renamed_import_means_what_it_meant() -> None:
    modules = {
        "a": "def f(): return 'a'",
        "b": "from p.a import f as g\ndef f(): return 'b' + g()",
        "c": "import p.a as one\nfrom p import b\ndef h(): return one.f() + b.f()",
    }
    assert value(bundled(modules, "c.h"), "c.h")() == "aba"


def test_a_local_variable_does_not_hide_a_renamed_global() -> None:
    modules = {
        "a": "def total(): return 7",
        "b": "from p.a import total as count\ndef f(total): return total + count()",
    }
    assert value(bundled(modules, "b.f"), "b.f")(1) == 8


def test_a_local_name_of_a_new_global_name_does_not_hide_it() -> None:
    modules = {
        "a": "def f(): return 1",
        "b": "import p.a\nfrom p.a import f as other\n"
        "def f(): return 2\ndef g(b_f=5): return f() + other() + b_f",
    }
    assert value(bundled(modules, "b.g"), "b.g")() == 8


def test_a_global_of_a_builtins_name_hides_it_from_nobody() -> None:
    modules = {
        "a": "def sum(values): return 'own'",
        "b": "from p.a import sum as own\ndef f(): return own([1]), sum([1, 2])",
    }
    assert value(bundled(modules, "b.f"), "b.f")() == ("own", 3)


def test_imports_of_others_that_collide_are_kept_apart() -> None:
    modules = {
        "a": "from math import floor as down\ndef f(x): return down(x)",
        "b": "from math import ceil as down\nfrom p.a import f\ndef g(x): return f(x), down(x)",
    }
    assert value(bundled(modules, "b.g"), "b.g")(1.5) == (1, 2)


def test_imports_inside_functions_are_resolved() -> None:
    modules = {
        "a": "def f(): return 1\ndef g(): return 2",
        "b": """
            def h(which):
                if which:
                    from p.a import f as chosen

                    return chosen()
                else:
                    from p.a import g
                return g()

            def nothing():
                from p.a import f
            """,
    }
    made = bundled(modules, "b.h", "b.nothing")
    assert (value(made, "b.h")(True), value(made, "b.h")(False)) == (1, 2)
    assert value(made, "b.nothing")() is None
    assert "import" not in made.text.replace("from __future__ import annotations", "")


def test_state_of_a_module_is_one() -> None:
    modules = {
        "a": """
            _state = 0
            def change(value):
                global _state
                _state = value
            def state(): return _state
            """,
        "b": """
            from p.a import change, state
            _state = "other"
            def f():
                change(3)
                return state(), _state
            """,
    }
    assert value(bundled(modules, "b.f"), "b.f")() == (3, "other")


def test_a_copy_of_changing_state_is_refused() -> None:
    modules = {
        "a": "state = 0\ndef change():\n    global state\n    state = 1\n",
        "b": "from p.a import state, change\ndef f():\n    change()\n    return state\n",
    }
    with pytest.raises(BundleError, match=r"p\.b imports state"):
        bundled(modules, "b.f")


def test_comprehensions_lambdas_and_classes_have_scopes_of_their_own() -> None:
    modules = {
        "a": "def k(): return 10",
        "b": """
            from p.a import k as x
            def k(): return 1
            class C:
                size = k()
                def k(self): return k() + x()
            def f():
                rows = [k for k in range(3)]
                odd = (lambda k: k + x())(5)
                return rows, odd, C.size, C().k(), {k: v for k, v in [(1, x())]}
            """,
    }
    assert value(bundled(modules, "b.f"), "b.f")() == ([0, 1, 2], 15, 1, 11, {1: 10})


def test_names_in_f_strings_are_renamed() -> None:
    modules = {
        "a": "def f(): return 1",
        "b": "from p.a import f as g\n"
        'def f(x): return (f"{g()} and "\n    f"{f.__name__!r} {x:>{g()}}")',
    }
    assert value(bundled(modules, "b.f"), "b.f")(3) == "1 and 'b_f' 3"


def test_what_nobody_uses_is_dropped() -> None:
    modules = {
        "a": """
            import socket
            LIMIT = 3
            UNUSED = socket.gethostname()
            def helper(): return LIMIT
            def other(): return UNUSED
            class Worker:
                def used(self): return helper()
                def unused(self): return other()
                def __len__(self): return 4
            """,
        "b": "from p.a import Worker\ndef f(): return Worker().used(), len(Worker())",
    }
    made = bundled(modules, "b.f")
    assert value(made, "b.f")() == (3, 4)
    for word in ("unused", "UNUSED", "other", "socket"):
        assert word not in made.text, word


def test_methods_that_others_may_call_are_kept() -> None:
    modules = {
        "a": """
            import threading
            class T(threading.Thread):
                def run(self): self.answer = 4
            class Named:
                def by_name(self): return 5
            def f():
                thread = T()
                thread.start()
                thread.join()
                return thread.answer, getattr(Named(), "by_name")()
            """
    }
    assert value(bundled(modules, "a.f"), "a.f")() == (4, 5)


def test_a_class_that_loses_all_methods_stays_a_class() -> None:
    made = bundled({"a": "class C:\n\n    def gone(self): return 1\n"}, "a.C")
    assert "gone" not in made.text and value(made, "a.C")() is not None


def test_what_only_type_checkers_read_is_dropped() -> None:
    modules = {
        "a": "class Big:\n    pass",
        "b": """
            from __future__ import annotations
            from typing import TYPE_CHECKING, cast
            from p.a import Big
            if TYPE_CHECKING:
                from p.c import Never
            def f(x: Big, y: Never) -> Big:
                return cast(Big, x + y).real + cast(int, x)
            """,
    }
    made = bundled(modules, "b.f")
    assert "class Big" not in made.text and "cast" not in made.text
    assert value(made, "b.f")(1, 2) == 4


def test_modules_stand_behind_what_they_import() -> None:
    modules = {
        "z": "BASE = 2\ndef mark(f): return lambda: f() * BASE",
        "a": "from p.z import mark\n@mark\ndef f(): return 4",
    }
    assert value(bundled(modules, "a.f"), "a.f")() == 8


def test_re_exports_and_replacements() -> None:
    modules = {
        "a": "def f(): return 'real'",
        "b": "from p.a import f",
        "stand_in": "def f(): return 'stand-in'",
        "c": "from p.b import f\nfrom json import dumps\ndef g(): return f(), dumps(1)",
    }
    assert value(bundled(modules, "c.g"), "c.g")() == ("real", "1")
    replaced = {"p.a.f": "p.stand_in.f", "json.dumps": "p.stand_in.f"}
    made = bundled(modules, "c.g", replaced=replaced)
    with pytest.raises(TypeError):  # the stand-in takes no argument, so it is really called
        value(made, "c.g")()
    assert "real" not in made.text and "json" not in made.text


def test_optional_modules_and_effects_are_kept() -> None:
    modules = {
        "a": """
            try:
                import nothing_of_this_name as fast
            except ImportError:
                fast = None
            TABLE = {}
            def f(): return fast, TABLE
            TABLE["x"] = 1
            """
    }
    assert value(bundled(modules, "a.f"), "a.f")() == (None, {"x": 1})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("from p.b import gone\ndef f(): return gone()", "p.b defines no gone"),
        ("import p.b\ndef f(): return vars(p.b)", "used as an object"),
        ("from os import *\ndef f(): return sep", "star imports"),
        ("def f():\n    from p.b import x\n    x = 1\n    return x", "assigned there"),
    ],
)
def test_what_cannot_be_bundled_is_refused(text: str, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        bundled({"a": text, "b": "x = 1"}, "a.f")


def test_a_circle_of_imports_is_refused() -> None:
    modules = {
        "a": "from p.b import g\ndef f(): return g",
        "b": "import p.a\ndef g(): return p.a.f",
    }
    with pytest.raises(BundleError, match="import each other"):
        bundled(modules, "a.f")


def test_comments_and_docstrings_stay_for_readers() -> None:
    modules = {
        "a": '"""What it is for."""\n# Why five.\nFIVE = 5  # exactly\n'
        'def f():\n    """A doc."""\n    return FIVE\n'
    }
    text = bundled(modules, "a.f").text
    for words in ("# What it is for.", "# Why five.", "# exactly", '"""A doc."""'):
        assert words in text
