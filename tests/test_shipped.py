"""The shipped code: complete, importable as it is, the same program, the same bytes each time."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tokenize
import zipfile
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from pgolf import shipped
from pgolf.errors import UserError
from pgolf.shipped import (
    CODE_FILE,
    SHIPPED_GROUPS,
    adapts_while_scoring,
    check_shippable,
    strip,
    write_code,
)

PACKAGE = Path(shipped.__file__).parent

SOURCE = '''
#!/usr/bin/env python
"""Module."""
from __future__ import annotations
import asyncio

TEXT = """no docstring"""  # a comment


class Empty:
    """Only a docstring."""


class Full:
    """Docstring."""
    kind = "# no comment"

    def nothing(self):
        """Only a docstring."""

    def text(self):
        "Short." ; return f"{self.kind!r:>{20}}" + TEXT

    async def wait(self):
        """Docstring."""
        "a second string is code"
        return 1


def nested(x, /, *, y=2):
    def inner():
        """Docstring."""
        return x + y
    return inner


RESULT = [Full().text(), Full().nothing(), asyncio.run(Full().wait()), nested(1, y=3)()]
'''


def run(source: str) -> Any:
    namespace: dict[str, Any] = {"__name__": "shipped_test"}
    exec(compile(source, "shipped_test", "exec"), namespace)
    return namespace["RESULT"]


def test_stripped_code_does_the_same_and_says_nothing() -> None:
    stripped = strip(SOURCE)
    assert run(stripped) == run(SOURCE)
    assert "Docstring" not in stripped and "a comment" not in stripped
    assert "no docstring" in stripped and "# no comment" in stripped


class Speechless(ast.NodeTransformer):
    """An independent removal of docstrings, by position: what follows the header of a scope."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                del node.body[0]
            if not isinstance(node, ast.Module):
                node.body = node.body or [ast.Pass()]
        return node


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_pgolf_itself_is_the_same_but_for_docstrings_and_comments(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    stripped = strip(source)
    assert ast.dump(ast.parse(stripped)) == ast.dump(Speechless().visit(ast.parse(source)))
    tokens = tokenize.generate_tokens(StringIO(stripped).readline)
    assert not [token for token in tokens if token.type == tokenize.COMMENT]


PARTS = ("pgolf.model.baseline.BaselineGPT", "pgolf.codec.lzma_codec.LzmaCodec",
         "pgolf.eval.sliding.SlidingEvaluator")  # fmt: skip
CONFIG = {name: {"_target_": part} for name, part in zip(SHIPPED_GROUPS, PARTS, strict=True)}
CONFIG["ttt"] = {"_target_": "pgolf.ttt.prequant.PreQuantTTT"}
SCORE_FIRST = {"_target_": "pgolf.ttt.score_first.ScoreFirstTTT"}


def test_the_archive_does_not_depend_on_what_else_this_process_has_done(tmp_path: Path) -> None:
    sizes = []
    for run_name in ("a", "b"):
        (tmp_path / run_name).mkdir()
        sizes.append(write_code(tmp_path / run_name, CONFIG))
        importlib.import_module("pgolf.train.trainer")
    first, second = (tmp_path / name / CODE_FILE for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    assert sizes == [first.stat().st_size, second.stat().st_size]


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_archive_holds_what_scoring_imports_and_nothing_else(
    adaptive: bool, tmp_path: Path
) -> None:
    write_code(tmp_path, CONFIG | {"ttt": SCORE_FIRST} if adaptive else CONFIG)
    with zipfile.ZipFile(tmp_path / CODE_FILE) as archive:
        found = set(archive.namelist())
    wanted = ["pgolf.agent", "pgolf.worker", "pgolf.evaluate"]
    wanted += [part.rpartition(".")[0] for part in PARTS]
    wanted += ["pgolf.ttt.score_first", "pgolf.ttt.ledger"] if adaptive else []
    assert adaptive == any(name.startswith("pgolf/ttt/") for name in found)
    code = (
        f"import sys, {', '.join(wanted)}\n"
        "for m in list(sys.modules.values()):\n"
        "    if m.__name__.partition('.')[0] == 'pgolf': print(m.__file__, m.__doc__)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={"PYTHONPATH": str(tmp_path / CODE_FILE)},
        capture_output=True,
        text=True,
    )
    # A GPU loads the fused forms of the kernels, too.
    fused = {name for name in found if name.startswith("pgolf/kernel/fused/")}
    expected = {f"{tmp_path / CODE_FILE}/{name} None" for name in found - fused}
    assert set(done.stdout.splitlines()) == expected, done.stderr
    kernels = {name.rpartition("/")[2] for name in found if name.startswith("pgolf/kernel/")}
    twins = {path.name for path in (PACKAGE / "kernel/fused").glob("*.py")} & kernels
    assert twins and {f"pgolf/kernel/fused/{name}" for name in twins} <= fused


@pytest.mark.parametrize("group", ["model", "codec", "eval"])
def test_what_scoring_needs_has_to_lie_in_pgolf(group: str) -> None:
    parts = {name: {"_target_": f"pgolf.{name}.some.Part"} for name in ("model", "codec", "eval")}
    parts["ttt"] = CONFIG["ttt"]
    check_shippable({**parts, "quant": {"_target_": "mine.Quantizer"}})
    with pytest.raises(UserError, match=rf"{group}\._target_=mine\.Part: .*pgolf/{group}/"):
        check_shippable({**parts, group: {"_target_": "mine.Part"}})


def test_a_method_of_the_evaluate_job_has_to_lie_in_pgolf_as_well() -> None:
    check_shippable(CONFIG | {"ttt": SCORE_FIRST})
    with pytest.raises(UserError, match=r"ttt\._target_=tests\.ttt\.cheats\.Skips: .*pgolf/ttt/"):
        check_shippable(CONFIG | {"ttt": {"_target_": "tests.ttt.cheats.Skips"}})


def test_a_method_has_to_say_when_it_runs() -> None:
    assert adapts_while_scoring({"ttt": SCORE_FIRST}) and not adapts_while_scoring(CONFIG)
    with pytest.raises(UserError, match=r"has 0 of the methods adapt .* and score"):
        check_shippable(CONFIG | {"ttt": {"_target_": "pgolf.eval.sliding.SlidingEvaluator"}})
