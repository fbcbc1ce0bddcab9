"""Short names for what only the program itself calls by name: its globals, locals and parameters.

Attributes, and parameters that some call gives by keyword or some text names, keep theirs.
"""

from __future__ import annotations

import ast
import builtins
import itertools
import keyword
import string
from collections import Counter
from collections.abc import Collection, Iterator

from pgolf.bundle.scopes import COMPREHENSIONS, FUNCTIONS

Function = ast.FunctionDef | ast.AsyncFunctionDef
RESERVED = {*keyword.kwlist, *dir(builtins)}
# Of a program's own namespace, or read by Python, dataclasses and Triton by name.
KEPT = {"__file__", "__name__", "annotations"}


def rename(tree: ast.Module) -> ast.Module:
    """The program with short names, changed in place."""
    named, outer = _named_from_outside(tree), _bound_outside_functions(tree)
    for function in _outermost(tree):
        _rename_inside(function, named, outer)
    local = {n for function in _outermost(tree) for n in _bound(function)}
    _Names(_short_globals(tree, local), _short_members(tree)).visit(tree)
    return tree


def _rename_inside(function: Function, named: Collection[str], outer: Collection[str]) -> None:
    """Short names for what is local in a function and all that it contains."""
    words = _local_words(function, named, outer)
    taken = {n for node in ast.walk(function) for n in _names_of(node)} - set(words)
    if function.args.kwarg is not None:  # whose keywords must be no other parameter's
        taken |= set(named)
    names = _Names(dict(zip(words, _codes(taken), strict=False)))
    for argument in _arguments(function):  # defaults and decorators belong to what is around it
        names.visit(argument)
    function.body = [names.visit(node) for node in function.body]


def _short_globals(tree: ast.Module, local: Collection[str]) -> dict[str, str]:
    """New names of the module's functions, classes and values.

    Args:
        local: words that are something else within functions.
    """
    bound = {n for node in tree.body for n in _bound_by(node)}
    fixed = {*KEPT, *local, *_class_level(tree)}
    uses = Counter(n for node in ast.walk(tree) for n in _names_of(node))
    words = [w for w in bound if w not in fixed and not _special(w)]
    words.sort(key=lambda word: (-uses[word], word))
    return dict(zip(words, _codes(uses.keys(), least=2), strict=False))


def _bound_by(node: ast.stmt) -> Iterator[str]:
    """Names that a statement of the module gives, imports left out."""
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        yield from _stored(node)


def _bound_outside_functions(tree: ast.Module) -> set[str]:
    """Names of the module and Python's own."""
    inside = {id(n) for function in _outermost(tree) for n in ast.walk(function)}
    found = {n for node in ast.walk(tree) if id(node) not in inside for n in _names_of(node)}
    return found | {function.name for function in _outermost(tree)} | RESERVED


def _class_level(tree: ast.Module) -> set[str]:
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return {n for node in classes for n in _class_level_of(node)}


def _class_level_of(node: ast.ClassDef) -> set[str]:
    return {n for part in node.body for n in _bound_by(part)}


def _is_stored(node: ast.Name | ast.Attribute) -> bool:
    return not isinstance(node.ctx, ast.Load)


def _outermost(node: ast.AST) -> Iterator[Function]:
    """Functions of a module and methods of its classes, with all that they contain."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, FUNCTIONS):
            yield child
        elif not isinstance(child, ast.expr):
            yield from _outermost(child)


def _named_from_outside(tree: ast.Module) -> set[str]:
    """Words that calls give by keyword, and texts, which may become keywords of one."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg:
            found.add(node.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def _local_words(function: Function, named: Collection[str], outer: Collection[str]) -> list[str]:
    """Words that are local wherever they stand in a function, in the order of their first use.

    Args:
        named: parameters of these names keep them.
        outer: words that mean something outside; those bound only in a function or comprehension
            within this one may mean both in it.
    """
    first = list(dict.fromkeys(n for node in _walk(function) for n in _names_of(node)))
    fixed = {n for node in ast.walk(function) for n in _fixed(node)}
    fixed |= _parameters(function) & set(named)
    fixed |= (_bound(function) - _own(function)) & set(outer)
    bound = _bound(function)
    return [word for word in first if word in bound and word not in fixed]


def _walk(function: Function) -> Iterator[ast.AST]:
    """Nodes in the order of the text, arguments first."""
    waiting: list[ast.AST] = [function.args, *function.body]
    while waiting:
        node = waiting.pop(0)
        yield node
        waiting[:0] = ast.iter_child_nodes(node)


def _own(function: Function) -> set[str]:
    """Words that the function itself binds, not one inside it."""
    found = {argument.arg for argument in _arguments(function)}
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            found.add(node.name)
        elif not isinstance(node, (ast.Lambda, *COMPREHENSIONS)):
            found |= {
                n for n in _names_of(node) if not isinstance(getattr(node, "ctx", None), ast.Load)
            }
            waiting += ast.iter_child_nodes(node)
    return found


def _arguments(function: Function) -> list[ast.arg]:
    a = function.args
    found = [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]
    return [argument for argument in found if argument is not None]


def _bound(function: ast.AST) -> set[str]:
    """All words bound in a function and what it contains."""
    inner = {
        node.name
        for node in ast.walk(function)
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and node is not function
    }
    return inner | _parameters(function) | _stored(function)


def _parameters(function: ast.AST) -> set[str]:
    return {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}


def _stored(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found.add(node.name)
    return found


def _fixed(node: ast.AST) -> Iterator[str]:
    """Words that mean something outside the function, or are bound in ways not looked into."""
    if isinstance(node, ast.Global):
        yield from node.names
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
        yield node.name
    elif isinstance(node, ast.ClassDef):  # its body's names are attributes
        yield from _stored(node)


def _names_of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.ExceptHandler)):
        yield from filter(None, [node.name])
    elif isinstance(node, ast.Global | ast.Nonlocal):
        yield from node.names
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)


def _special(word: str) -> bool:
    return word.startswith("__") and word.endswith("__")


def _codes(taken: Collection[str], least: int = 1) -> Iterator[str]:
    """Short words, none of them taken or Python's own."""
    for length in itertools.count(least):
        for letters in itertools.product(string.ascii_letters, repeat=length):
            word = "".join(letters)
            if word not in taken and word not in RESERVED:
                yield word


class _Names(ast.NodeTransformer):
    """Puts new words in the places of old ones, wherever they stand as names."""

    def __init__(self, new: dict[str, str], members: dict[str, str] | None = None) -> None:
        self._new, self._members = new, members or {}
        self._in_class = False

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = self._new.get(node.id, node.id)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.Attribute:
        node.attr = self._members.get(node.attr, node.attr)
        self.generic_visit(node)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.arg = self._new.get(node.arg, node.arg)
        self.generic_visit(node)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        words = self._members if self._in_class else self._new
        node.name = words.get(node.name, node.name)
        outer, self._in_class = self._in_class, False
        self.generic_visit(node)
        self._in_class = outer
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        node.name = self._new.get(node.name, node.name)
        outer, self._in_class = self._in_class, True
        self.generic_visit(node)
        self._in_class = outer
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.ExceptHandler:
        node.name = self._new.get(node.name, node.name) if node.name else None
        self.generic_visit(node)
        return node

    def visit_Global(self, node: ast.Global) -> ast.Global:
        node.names = [self._new.get(name, name) for name in node.names]
        return node

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.Nonlocal:
        node.names = [self._new.get(name, name) for name in node.names]
        return node


def _short_members(tree: ast.Module) -> dict[str, str]:
    """New names of attributes and methods that begin with an underline and are classes' own.

    Others may be those of other packages' objects. So are those of classes with bases from there,
    and what a text names may be looked up by it. The underline stays: it tells who may change them.
    """
    plain, others = _own_members(tree)
    texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
    uses = Counter(n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute))
    words = [w for w in plain - others if w.startswith("_") and not _special(w) and w not in texts]
    words.sort(key=lambda word: (-uses[word], word))
    taken = {*uses, *plain, *others, *texts}
    free = (f"_{code}" for code in _codes(()) if f"_{code}" not in taken)
    return dict(zip(words, free, strict=False))


def _own_members(tree: ast.Module) -> tuple[set[str], set[str]]:
    """Members of classes without bases from elsewhere, and of all other classes."""
    classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    found: dict[bool, set[str]] = {True: set(), False: set()}

    def is_own(node: ast.ClassDef) -> bool:
        bases = [base.id if isinstance(base, ast.Name) else "" for base in node.bases]
        return all(base in classes and is_own(classes[base]) for base in bases)

    for node in classes.values():
        methods = {part.name for part in node.body if isinstance(part, FUNCTIONS)}
        stored = {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute) and _is_stored(n)}
        found[is_own(node)] |= methods | stored | _class_level_of(node)
    return found[True], found[False]
