"""A module without what known values make unreachable: branches, checks and whole statements."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pgolf.bundle.scopes import BundleError

# Python's own operators on values that are known.
COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda value, values: value in values,
    ast.NotIn: lambda value, values: value not in values,
}
PURE_CALLS = {"isinstance", "len", "type", "all", "any", "min", "max", "int"}
ENDS = (ast.Return, ast.Raise, ast.Continue, ast.Break)
SETTERS = {"__init__", "__post_init__"}
LOAD = ast.Load()


@dataclass(frozen=True)
class Known:
    """What is known of one module when it is packed.

    A text is an expression as `ast.unparse` writes it; `f(...)` stands for every call of f.

    Args:
        values: an expression's text to its value, a constant.
        dropped: texts of statements, calls or assignments, that do nothing here; `def f` is a
            method that nobody needs.
        checkers: functions whose checks go, as those of `__init__` and `__post_init__` do: what
            they look at are settings of a run, which has passed them.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    dropped: Collection[str] = ()
    checkers: Collection[str] = ()


def fold(source: str, known: Known) -> tuple[str, set[str]]:
    """The module with the known values in their places and what follows from them.

    Returns:
        its text without comments, and the texts of `known` that stand nowhere in it.
    """
    folder = _Folder(known)
    tree = folder.visit(ast.parse(source))
    text = ast.unparse(ast.fix_missing_locations(tree)) + "\n"
    return text, {*known.values, *known.dropped} - folder.met


class _Folder(ast.NodeTransformer):
    def __init__(self, known: Known) -> None:
        self.known = known
        self.met: set[str] = set()
        texts = [t for t in (*known.values, *known.dropped) if not t.startswith("def ")]
        self._values = known.values
        self._statements = [t for t in known.dropped if t in texts]
        self._last = {text: _last_name(ast.parse(text).body[0]) for text in texts}
        self._in_checker = False
        self._checkers = {*SETTERS, *known.checkers}

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.expr) and isinstance(getattr(node, "ctx", LOAD), ast.Load):
            text = self._meets(node, self._values)
            if text is not None:
                return ast.Constant(self.known.values[text])
        found = super().visit(node)
        for name in ("body", "orelse", "finalbody"):
            body = getattr(found, name, None)
            if isinstance(body, list) and isinstance(found, ast.AST):
                setattr(found, name, _until_end(body, found, name))
        return found

    def _meets(self, node: ast.AST, texts: Collection[str]) -> str | None:
        if not texts or not any(self._last[text] == _last_name(node) for text in texts):
            return None  # most nodes: unparsing is slow
        said = [ast.unparse(node)]
        if isinstance(node, ast.Call):
            said.append(f"{ast.unparse(node.func)}(...)")
        found = next((text for text in said if text in texts), None)
        if found is not None:
            self.met.add(found)
        return found

    # -- statements ------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef | None:
        if f"def {node.name}" in self.known.dropped:
            self.met.add(f"def {node.name}")
            return None
        outer, self._in_checker = self._in_checker, node.name in self._checkers
        is_generator = _yields(node)
        self.generic_visit(node)
        self._in_checker = outer
        node.body = _until_end(node.body, node, "body")
        if is_generator and not _yields(node):
            raise BundleError(f"nothing that {node.name} yields is left")
        return node

    def visit_Expr(self, node: Any) -> ast.stmt | None:
        return None if self._is_dropped(node) else self._inside(node)

    visit_Assign = visit_AugAssign = visit_Expr  # noqa: N815

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt | None:
        plain = node.value and ast.Assign([node.target], node.value, lineno=0)
        return None if plain and self._is_dropped(plain) else self._inside(node)

    def _is_dropped(self, node: ast.stmt) -> bool:
        what: ast.AST = node.value if isinstance(node, ast.Expr) else node
        return self._meets(what, self._statements) is not None

    def _inside(self, node: ast.stmt) -> ast.stmt:
        self.generic_visit(node)
        return node

    def visit_Assert(self, node: ast.Assert) -> None:
        """It says what its author knows, to its readers."""

    def visit_If(self, node: ast.If) -> ast.stmt | list[ast.stmt] | None:
        if (
            self._in_checker
            and not node.orelse
            and all(isinstance(n, ast.Raise) for n in node.body)
        ):
            return None
        self.generic_visit(node)
        node.test = _tested(node.test)
        if isinstance(node.test, ast.Constant):
            return node.body if node.test.value else node.orelse
        if not node.body and not node.orelse:
            return None if _is_pure(node.test) else ast.Expr(node.test)
        if not node.body:
            node.test, node.body, node.orelse = _negated(node.test), node.orelse, []
        return node

    def visit_Try(self, node: ast.Try) -> ast.stmt | list[ast.stmt]:
        """An error that only becomes another one stays what it is."""
        self.generic_visit(node)
        if not node.orelse and all(isinstance(h.body[0], ast.Raise) for h in node.handlers):
            node.handlers = []
        return node if node.handlers or node.finalbody else node.body

    def visit_For(self, node: ast.For) -> ast.stmt | None:
        self.generic_visit(node)
        if not node.body and not node.orelse and _is_pure(node.iter):
            return None
        node.body = node.body or [ast.Pass()]
        return node

    # -- expressions -----------------------------------------------------------------------------

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        self.generic_visit(node)
        node.test = _tested(node.test)
        if isinstance(node.test, ast.Constant):
            return node.body if node.test.value else node.orelse
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.op, ast.Not) and isinstance(node.operand, ast.Constant):
            return ast.Constant(not node.operand.value)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        self.generic_visit(node)
        is_or = isinstance(node.op, ast.Or)
        kept: list[ast.expr] = []
        for value in node.values:
            if not isinstance(value, ast.Constant):
                kept.append(value)
            elif bool(value.value) is is_or:  # decides, unless one before it does
                kept.append(value)
                break
            elif value is node.values[-1]:  # its value is what is left over
                kept.append(value)
        if len(kept) == 1:
            return kept[0]
        return ast.BoolOp(node.op, kept)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        if len(node.ops) != 1 or type(node.ops[0]) not in COMPARE:
            return node
        values = _constants([node.left, *node.comparators])
        return node if values is None else ast.Constant(COMPARE[type(node.ops[0])](*values))


def _last_name(node: ast.AST) -> tuple[type[ast.AST], str]:
    """What a node is and the name that it ends with, by which few nodes are taken for others."""
    while isinstance(node, ast.Expr):
        node = node.value
    inner: ast.AST = node.func if isinstance(node, ast.Call) else node
    if isinstance(inner, ast.Compare):
        inner = inner.left
    if isinstance(inner, ast.BoolOp):
        inner = inner.values[0]
    if isinstance(inner, ast.Assign | ast.AugAssign):
        inner = inner.targets[0] if isinstance(inner, ast.Assign) else inner.target
    return type(node), getattr(inner, "attr", getattr(inner, "id", ""))


def _until_end(body: list[ast.stmt], owner: ast.AST, name: str) -> list[ast.stmt]:
    """Statements up to the first that leaves the block; a block that needs one has one."""
    ends = next((i for i, node in enumerate(body) if isinstance(node, ENDS)), len(body))
    kept = body[: ends + 1]
    needed = name == "body" and not isinstance(owner, ast.If | ast.For | ast.Module)
    return kept or ([ast.Pass()] if needed else [])


def _tested(test: ast.expr) -> ast.expr:
    """As a condition, where only truth counts."""
    if not isinstance(test, ast.BoolOp):
        return test
    *before, last = test.values
    if not isinstance(last, ast.Constant):
        return test
    if bool(last.value) is isinstance(test.op, ast.Or):
        return last if all(map(_is_pure, before)) else test
    return before[0] if len(before) == 1 else ast.BoolOp(test.op, before)


def _yields(node: ast.FunctionDef) -> bool:
    return any(isinstance(inner, ast.Yield | ast.YieldFrom) for inner in ast.walk(node))


def _constants(nodes: Iterable[ast.expr]) -> list[Any] | None:
    """Values of constants and of tuples of some; None where one is something else."""
    values: list[Any] = []
    for node in nodes:
        if isinstance(node, ast.Tuple):
            inner = _constants(node.elts)
            if inner is None:
                return None
            values.append(tuple(inner))
        elif isinstance(node, ast.Constant):
            values.append(node.value)
        else:
            return None
    return values


def _negated(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def _is_pure(node: ast.expr) -> bool:
    """Whether nothing happens when it is evaluated."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom):
            return False
        if isinstance(inner, ast.Call):
            name = inner.func.id if isinstance(inner.func, ast.Name) else ""
            if name not in PURE_CALLS:
                return False
    return True
