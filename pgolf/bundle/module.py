"""A module's source, cut into its top-level statements, each with what it uses."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from pgolf.bundle.scopes import (
    FUNCTIONS,
    BundleError,
    Found,
    Origin,
    Scan,
    bound_names,
    imported_names,
)

# Bases of classes whose methods nobody calls but code that is in the bundle.
PLAIN_BASES = {"object", "Exception", "ValueError", "RuntimeError"}


@dataclass
class Statement:
    """A top-level statement that is no import.

    Args:
        module: that it stands in.
        names: what it defines; a statement without names is kept for what it does.
        node: its tree.
        start, end: its bytes in the source, comments above it included.
    """

    module: Module
    names: frozenset[str]
    node: ast.stmt
    start: int
    end: int

    def __hash__(self) -> int:
        return id(self)

    @cached_property
    def found(self) -> Found:
        scan = Scan(self.module.resolves, self.module.casts)
        try:
            scan.visit(self.node)
        except BundleError as error:
            raise BundleError(f"{self.module.name}: {error}") from error
        return scan.found

    @cached_property
    def methods(self) -> list[Method]:
        """Methods that can be left out; none of a class that outside code may call."""
        if not isinstance(self.node, ast.ClassDef) or self.node.keywords:
            return []
        bases = {ast.unparse(base) for base in self.node.bases}
        if bases - PLAIN_BASES:
            return []
        return [
            Method(self, node.name, *self.module.span(node))
            for node in self.node.body
            if isinstance(node, FUNCTIONS) and not _is_special(node.name)
        ]

    def method_at(self, node: ast.AST) -> Method | None:
        """The method that a node stands in, of those that can be left out."""
        at = self.module.offset(node.lineno, node.col_offset)  # type: ignore[attr-defined]
        return next((m for m in self.methods if m.start <= at < m.end), None)


@dataclass(frozen=True)
class Method:
    """A method of a class and its bytes in the source."""

    owner: Statement
    name: str
    start: int
    end: int


@dataclass
class Module:
    """A module.

    Args:
        name: dotted.
        source: its text in UTF-8, which all offsets count.
        resolves: whether another module is inlined.
    """

    name: str
    source: bytes
    resolves: Callable[[str], bool]
    statements: list[Statement] = field(default_factory=list)
    imports: dict[str, Origin] = field(default_factory=dict)
    type_imports: dict[str, Origin] = field(default_factory=dict)  # for type checkers alone
    dotted: dict[str, set[str]] = field(default_factory=dict)  # `import a.b` by a
    doc: str = ""

    def __post_init__(self) -> None:
        self._lines = [0]
        for line in self.source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        tree = ast.parse(self.source)
        self.doc = ast.get_docstring(tree) or ""
        for node in tree.body[bool(self.doc) :]:
            self._add(node)
        self.casts = {n for n, origin in self.imports.items() if origin == ("typing", "cast")}
        self.defined = {name: s for s in self.statements for name in s.names}

    def _add(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                return
            self.imports.update(imported_names(node))
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if not alias.asname:
                        root = alias.name.partition(".")[0]
                        self.dotted.setdefault(root, set()).add(alias.name)
            return
        condition = ast.unparse(node.test) if isinstance(node, ast.If) else ""
        if condition.startswith("__name__ =="):
            return
        if condition == "TYPE_CHECKING":
            for child in node.body:  # type: ignore[attr-defined]
                self.type_imports.update(imported_names(child))
            return
        names = bound_names([node])
        if names != {"__all__"}:
            self.statements.append(Statement(self, frozenset(names), node, *self.span(node)))

    @cached_property
    def rebound(self) -> set[str]:
        """Names that functions of the module assign by `global`."""
        return {name for s in self.statements for node in s.found.globals for name in node.names}

    def definitions(self, name: str) -> list[Statement]:
        """Statements that define a name: one, or several that replace or change each other."""
        return [s for s in self.statements if name in s.names]

    def offset(self, line: int, column: int) -> int:
        return self._lines[line - 1] + column

    def span(self, node: ast.stmt) -> tuple[int, int]:
        """Whole lines of a statement: from the comments above it to what stands behind it."""
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        while first > 1 and re.match(rb"\s*#", self._line(first - 1)):
            first -= 1
        assert node.end_lineno is not None
        return self._lines[first - 1], self._lines[node.end_lineno]

    def _line(self, number: int) -> bytes:
        return self.source[self._lines[number - 1] : self._lines[number]]


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
