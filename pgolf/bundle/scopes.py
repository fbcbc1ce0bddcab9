"""Which names of a statement mean something outside it, by Python's rules of scope."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

# Module and name in it; None is the module itself.
Origin = tuple[str, str | None]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class BundleError(Exception):
    """The source uses something that cannot be put into one file; the message says where."""


@dataclass
class Use:
    """A name that is not local.

    Args:
        node: where it stands.
        origin: what a function-level import bound it to; None: look it up in the module.
        chain: attributes that follow it, inner first.
        annotation: it stands in an annotation, which is never evaluated.
        text: the f-string that it stands in.
    """

    node: ast.Name
    origin: Origin | None
    chain: list[ast.Attribute]
    annotation: bool
    text: ast.JoinedStr | None


@dataclass
class Found:
    """All that was found in a statement.

    Args:
        attributes: nodes that name a member: attributes, and strings that could be names of some.
        bound: names that are local somewhere inside.
        imports: function-level imports that the bundle resolves itself.
        casts: calls of typing.cast, which only a type checker reads.
        external: modules that are imported inside functions and stay so.
    """

    uses: list[Use] = field(default_factory=list)
    attributes: list[tuple[ast.expr, str]] = field(default_factory=list)
    globals: list[ast.Global] = field(default_factory=list)
    bound: set[str] = field(default_factory=set)
    imports: list[tuple[ast.stmt, list[ast.stmt]]] = field(default_factory=list)
    casts: list[ast.Call] = field(default_factory=list)
    external: set[str] = field(default_factory=set)


@dataclass
class _Scope:
    is_class: bool = False
    bound: set[str] = field(default_factory=set)
    imported: dict[str, Origin] = field(default_factory=dict)
    module_level: set[str] = field(default_factory=set)
    outer: set[str] = field(default_factory=set)


class Scan(ast.NodeVisitor):
    """Reads one top-level statement of a module.

    Args:
        resolves: whether a module is inlined, so that imports of it are taken out.
        casts: names that mean typing.cast in this module.
    """

    def __init__(self, resolves: Callable[[str], bool], casts: set[str]) -> None:
        self.found = Found()
        self._resolves, self._casts = resolves, casts
        self._scopes: list[_Scope] = []
        self._annotation = False
        self._text: ast.JoinedStr | None = None

    # -- names -----------------------------------------------------------------------------------

    def visit_Name(self, node: ast.Name) -> None:
        self._use(node, [])

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain: list[ast.Attribute] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            self.found.attributes.append((inner, inner.attr))
            chain.insert(0, inner)
            inner = inner.value
        if isinstance(inner, ast.Name):
            self._use(inner, chain)
        else:
            self.visit(inner)

    def _use(self, node: ast.Name, chain: list[ast.Attribute]) -> None:
        is_local, origin = self._look_up(node.id)
        if not is_local:
            self.found.uses.append(Use(node, origin, chain, self._annotation, self._text))

    def _look_up(self, name: str) -> tuple[bool, Origin | None]:
        """Whether a name is local here, and if not, what a function-level import made of it."""
        for depth, scope in enumerate(reversed(self._scopes)):
            if scope.is_class and depth > 0:  # methods do not see the names of their class
                continue
            if name in scope.module_level:
                return False, None
            if name in scope.imported:
                return False, scope.imported[name]
            if name in scope.bound:
                return True, None
        return False, None

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and node.value.isidentifier():
            self.found.attributes.append((node, node.value))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        outer, self._text = self._text, self._text or node
        self.generic_visit(node)
        self._text = outer

    def visit_Global(self, node: ast.Global) -> None:
        self.found.globals.append(node)

    def visit_Call(self, node: ast.Call) -> None:
        is_cast = isinstance(node.func, ast.Name) and node.func.id in self._casts
        if is_cast and len(node.args) == 2 and not self._look_up(node.func.id)[0]:  # type: ignore[attr-defined]
            self.found.casts.append(node)
            self.visit(node.args[1])
        else:
            self.generic_visit(node)

    # -- scopes ----------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._visit_all(node.decorator_list)
        self._visit_arguments(node.args)
        self._visit_annotation(node.returns)
        self._inside(self._scope(node.body, _arguments(node.args)), node.body)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_arguments(node.args)
        self._inside(self._scope([node.body], _arguments(node.args)), [node.body])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._visit_all([*node.decorator_list, *node.bases, *node.keywords])
        scope = self._scope(node.body, set())
        scope.is_class = True
        self._inside(scope, node.body)

    def _visit_comprehension(self, node: ast.AST) -> None:
        generators: list[ast.comprehension] = node.generators  # type: ignore[attr-defined]
        self.visit(generators[0].iter)
        scope = _Scope(bound={n for g in generators for n in _stored(g.target)})
        inside = [n for g in generators for n in (g.target, *g.ifs)]
        inside += [g.iter for g in generators[1:]]
        results = [getattr(node, key, None) for key in ("elt", "key", "value")]
        self._inside(scope, [*inside, *(n for n in results if n is not None)])

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _visit_comprehension  # noqa: N815

    def _inside(self, scope: _Scope, nodes: Iterable[ast.AST]) -> None:
        self.found.bound |= scope.bound
        self._scopes.append(scope)
        self._visit_all(nodes)
        self._scopes.pop()

    def _visit_all(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    def _visit_arguments(self, arguments: ast.arguments) -> None:
        """Defaults and annotations belong to the scope around the function."""
        self._visit_all([*arguments.defaults, *arguments.kw_defaults])
        for argument in _all_arguments(arguments):
            self._visit_annotation(argument.annotation)

    def _visit_annotation(self, node: ast.expr | None) -> None:
        if node is not None:
            outer, self._annotation = self._annotation, True
            self.visit(node)
            self._annotation = outer

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._visit_annotation(node.annotation)
        self._visit_all([node.target, node.value])

    # -- imports inside functions ----------------------------------------------------------------

    def generic_visit(self, node: ast.AST) -> None:
        for _, value in ast.iter_fields(node):
            if self._scopes and isinstance(value, list):
                for child in value:
                    if isinstance(child, ast.Import | ast.ImportFrom):
                        self._note_import(child, value)
        super().generic_visit(node)

    def _scope(self, body: list[ast.stmt] | list[ast.expr], arguments: set[str]) -> _Scope:
        """The scope of a function's or a class's body."""
        scope = _Scope(bound=set(arguments))
        for node in _own_nodes(body):
            if isinstance(node, ast.Global):
                scope.module_level |= set(node.names)
            elif isinstance(node, ast.Nonlocal):
                scope.outer |= set(node.names)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                for name, origin in imported_names(node):
                    if self._resolves(origin[0]):
                        scope.imported[name] = origin
                    else:
                        scope.bound.add(name)
            else:
                scope.bound |= set(_binds(node))
        both = scope.bound & scope.imported.keys()
        if both:
            raise BundleError(f"{sorted(both)[0]} is imported in a function and assigned there")
        scope.bound -= scope.module_level | scope.outer
        for child in body:  # imports directly in the body; deeper ones by generic_visit
            if isinstance(child, ast.Import | ast.ImportFrom):
                self._note_import(child, body)  # type: ignore[arg-type]
        return scope

    def _note_import(self, node: ast.Import | ast.ImportFrom, body: list[ast.stmt]) -> None:
        inner = [self._resolves(origin[0]) for _, origin in imported_names(node)]
        if not any(inner):
            self.found.external |= {origin[0] for _, origin in imported_names(node)}
        elif all(inner):
            self.found.imports.append((node, body))
        else:
            raise BundleError(f"line {node.lineno}: one statement imports inlined and other names")


def imported_names(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Origin]]:
    """(local name, what it means) of an import; `import a.b` binds a."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            if node.level or alias.name == "*" or node.module is None:
                raise BundleError(f"line {node.lineno}: relative and star imports are not resolved")
            yield alias.asname or alias.name, (node.module, alias.name)
        elif alias.asname:
            yield alias.asname, (alias.name, None)
        else:
            yield alias.name.partition(".")[0], (alias.name.partition(".")[0], None)


def bound_names(body: list[ast.stmt]) -> set[str]:
    """Names that these statements bind in their own scope."""
    found: set[str] = set()
    for node in _own_nodes(body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {name for name, _ in imported_names(node)}
        else:
            found |= set(_binds(node))
    return found


def _own_nodes(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Nodes whose names are bound in the scope of this body, nested scopes' insides left out."""
    for node in body:
        yield node
        if isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
            continue
        if isinstance(node, COMPREHENSIONS):  # only := gets out of it
            yield from (n for n in ast.walk(node) if isinstance(n, ast.NamedExpr))
            continue
        yield from _own_nodes(ast.iter_child_nodes(node))


def _binds(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            yield name
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.NamedExpr(target=ast.Name(id=name)):
            yield name
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
            yield name
        case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
            yield name


def _stored(target: ast.expr) -> set[str]:
    return {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}


def _all_arguments(arguments: ast.arguments) -> list[ast.arg]:
    found = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return found + [a for a in (arguments.vararg, arguments.kwarg) if a is not None]


def _arguments(arguments: ast.arguments) -> set[str]:
    return {argument.arg for argument in _all_arguments(arguments)}
