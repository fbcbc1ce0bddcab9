"""Fewer bytes, the same program: no docstrings, comments, annotations; or one compressed line."""

from __future__ import annotations

import ast
import base64
import io
import lzma
import tokenize

import brotli

FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4}]
# Annotations are fields there, or read by a compiler.
KEEPERS = {"dataclass", "NamedTuple", "Protocol", "TypedDict"}
MAX_MESSAGE = 32  # characters of an error's own words
COMPILERS = ("triton", "jit", "autotune", "heuristics", "runtime_checkable")

_LINE = """import base64,linecache,{module} as c
s=c.decompress(base64.b85decode({data!r}){options})
f='train_gpt_unpacked.py'
linecache.cache[f]=len(s),None,s.decode().splitlines(True),f
exec(compile(s,f,'exec'))
"""


def minify(source: str) -> str:
    """A program without what only its readers need; names are kept, errors say less."""
    tree = _Stripper().visit(ast.parse(source))
    return _indent_by_one(ast.unparse(ast.fix_missing_locations(tree))) + "\n"


def wrap(source: str, codec: str) -> str:
    """A short program that unpacks another and runs it; its functions keep their source.

    Args:
        codec: "lzma" or "brotli".
    """
    data, options = source.encode(), ""
    if codec == "lzma":
        packed = lzma.compress(data, lzma.FORMAT_RAW, filters=FILTERS)
        options = f",format={int(lzma.FORMAT_RAW)},filters={FILTERS!r}"
    else:
        packed = brotli.compress(data, quality=11, lgwin=24)
    return _LINE.format(module=codec, data=base64.b85encode(packed).decode(), options=options)


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
            for child in node.body:  # its fields stay
                if not isinstance(child, ast.AnnAssign):
                    self.visit(child)
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
    return ast.JoinedStr(kept)


def _marks(node: ast.ClassDef) -> list[ast.expr]:
    return [*node.decorator_list, *node.bases]


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    if is_text and isinstance(first.value.value, str | type(...)):  # type: ignore[union-attr]
        return body[1:]
    return body


def _indent_by_one(source: str) -> str:
    """Source of ast.unparse, which indents by four, indented by one."""
    lines = source.splitlines(keepends=True)
    inside: set[int] = set()  # lines that begin within a string
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.start[0] != token.end[0]:
            inside |= set(range(token.start[0] + 1, token.end[0] + 1))
    for number, line in enumerate(lines, 1):
        if number not in inside:
            bare = line.lstrip(" ")
            lines[number - 1] = " " * ((len(line) - len(bare)) // 4) + bare
    return "".join(lines)
