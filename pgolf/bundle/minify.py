"""Fewer bytes, the same program: no docstrings, comments, annotations; short names."""

from __future__ import annotations

import ast

from pgolf.bundle.compact import compact
from pgolf.bundle.rename import rename

# Annotations are fields there, or read by a compiler.
KEEPERS = {"dataclass", "NamedTuple", "Protocol", "TypedDict"}
SPECIAL = ("ClassVar", "InitVar", "KW_ONLY")
MAX_MESSAGE = 16  # characters of an error's own words
COMPILERS = ("triton", "jit", "autotune", "heuristics", "runtime_checkable")


def minify(source: str) -> str:
    """A program without what only its readers need; errors say less."""
    return compact(ast.unparse(rename(strip(source))))


def strip(source: str) -> ast.Module:
    """A program's tree without docstrings, comments and annotations, its errors shortened."""
    tree: ast.Module = _Stripper().visit(ast.parse(source))
    return ast.fix_missing_locations(tree)


class _Stripper(ast.NodeTransformer):
    """Takes out docstrings and annotations, and shortens the messages of errors."""

    def visit_Raise(self, node: ast.Raise) -> ast.Raise:
        self.generic_visit(node)
        if isinstance(node.exc, ast.Call) and len(node.exc.args) == 1:
            node.exc.args = [_shortened(node.exc.args[0])]
        return node

    def visit_Module(self, node: ast.Module) -> ast.Module:
        node.body = _without_docstring(node.body) or [ast.Pass()]
        self.generic_visit(node)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        node.body = _without_docstring(node.body) or [ast.Pass()]
        marks = {ast.unparse(n).partition("(")[0].rpartition(".")[2] for n in _marks(node)}
        if marks & KEEPERS:
            for child in node.body:
                if not isinstance(child, ast.AnnAssign):
                    self.visit(child)
                elif not any(word in ast.unparse(child.annotation) for word in SPECIAL):
                    child.annotation = ast.Name("int", ast.Load())  # a field is one by having any
            return node
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.body = _without_docstring(node.body) or [ast.Pass()]
        decorators = " ".join(ast.unparse(d) for d in node.decorator_list)
        if any(word in decorators for word in COMPILERS):
            return node  # its annotations are read, also those of local names
        node.returns = None
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                argument.annotation = None
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt | None:
        self.generic_visit(node)
        if node.value is None:
            # In a function it says that the name is local; an assignment elsewhere in it does, too.
            return None
        return ast.Assign([node.target], node.value)


def _shortened(message: ast.expr) -> ast.expr:
    """The beginning of a text with values in it."""
    if isinstance(message, ast.Constant) and isinstance(message.value, str):
        return ast.Constant(message.value[:MAX_MESSAGE])
    if not isinstance(message, ast.JoinedStr):
        return message
    kept: list[ast.expr] = []
    left = MAX_MESSAGE
    for part in message.values:
        if left > 0:
            kept.append(_shortened(part) if isinstance(part, ast.Constant) else part)
        left -= len(part.value) if isinstance(part, ast.Constant) else 0  # type: ignore[arg-type]
    return kept[0] if isinstance(kept[0], ast.Constant) and len(kept) == 1 else ast.JoinedStr(kept)


def _marks(node: ast.ClassDef) -> list[ast.expr]:
    return [*node.decorator_list, *node.bases]


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    if is_text and isinstance(first.value.value, str | type(...)):  # type: ignore[union-attr]
        return body[1:]
    return body
