"""Where validation text flows in a script: into what is trained, and into what is scored.

A value carries validation text if it comes from a name like `val_tokens`, through slices, methods
and calls, by the assignment that stands last before its use. Counts and shapes carry nothing.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

VALIDATION = re.compile(
    r"(?:^|_)val(?:id|idation)?_(?:tokens?|data|dataset|ids|stream|text|docs?|batch(?:es)?|seqs?|"
    r"inputs?|targets?|x|y|chunks?|loader|files?|shards?|set|path)(?:$|_)",
    re.I,
)
COUNTS = frozenset({"numel", "size", "item", "dim", "shape", "dtype", "device", "ndim", "nbytes"})
NO_CONTENT = frozenset({"len", "range", "print", "log", "int", "isinstance", "type", "id", "hash"})
OWN_RESULT = re.compile(r"^_*(?:eval|train|score|ttt|adapt|fit|run|main|serialize|quantize)", re.I)
NO_GRAD = re.compile(r"(?:no_grad|inference_mode)")
MAX_DEPTH, MAX_LIFT = 40, 4

Loop = ast.For | ast.While


@dataclass
class Function:
    """A function or the module itself, without the functions defined inside it.

    Args:
        name: "<module>" of the module.
        node: its syntax.
        nodes: all nodes of its own body.
        parents: the node around each of them.
        carrying: parameters that get validation text from a call.
        outer: the function around it, whose names it sees.
        assigned: places and values of names.
        filled: what is written into parts of a name: `x[i] = value`, `x[i].copy_(value)`.
    """

    name: str
    node: ast.AST
    nodes: list[ast.AST] = field(default_factory=list)
    parents: dict[ast.AST, ast.AST] = field(default_factory=dict)
    carrying: set[str] = field(default_factory=set)
    outer: Function | None = None
    assigned: dict[str, list[tuple[int, ast.expr]]] = field(default_factory=dict)
    filled: dict[str, list[ast.expr]] = field(default_factory=dict)

    @property
    def parameters(self) -> list[str]:
        if not isinstance(self.node, ast.FunctionDef | ast.AsyncFunctionDef):
            return []
        arguments = self.node.args
        return [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]

    def around(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes around one, innermost first."""
        while node in self.parents:
            node = self.parents[node]
            yield node

    def outermost_loop(self, node: ast.AST) -> Loop | None:
        loops = [n for n in self.around(node) if isinstance(n, Loop)]
        return loops[-1] if loops else None

    def calls(self) -> Iterator[ast.Call]:
        return (node for node in self.nodes if isinstance(node, ast.Call))


class Flow:
    """All functions of a script, and which values carry validation text."""

    def __init__(self, tree: ast.Module) -> None:
        self.functions: list[Function] = []
        self._collect(tree, Function("<module>", tree))
        self.local: dict[str, list[Function]] = {}
        for function in self.functions:
            self.local.setdefault(function.name, []).append(function)
        self._known: dict[tuple[int, int, int], bool] = {}
        for _ in range(MAX_LIFT):
            changed = self._pass_on()
            self._known.clear()
            if not changed:
                break

    def _collect(self, node: ast.AST, function: Function) -> None:
        self.functions.append(function)
        waiting: list[tuple[ast.AST, ast.AST | None]] = [(c, None) for c in _body(node)]
        while waiting:
            child, parent = waiting.pop()
            if parent is not None:
                function.parents[child] = parent
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                self._collect(child, Function(child.name, child, outer=function))
                continue
            function.nodes.append(child)
            _note_assignment(function, child)
            waiting += [(grandchild, child) for grandchild in ast.iter_child_nodes(child)]
        for values in function.assigned.values():
            values.sort(key=lambda row: row[0])

    def _pass_on(self) -> bool:
        """Mark parameters that get validation text from a call; whether any is new."""
        changed = False
        for caller in self.functions:
            for call in caller.calls():
                bindings = [(callee, _bound(callee, call)) for callee in self.called(call)]
                bindings += [(f, _handed(f, call, at)) for f, at in self.handed_on(call)]
                for callee, given in bindings:
                    for name, value in given:
                        if name not in callee.carrying and self.carries(
                            caller, value, place(value)
                        ):
                            callee.carrying.add(name)
                            changed = True
        return changed

    def called(self, call: ast.Call) -> list[Function]:
        """The script's own functions that a call may mean: by name, methods included."""
        name = called_name(call)
        return self.local.get(name, []) if name != "<module>" else []

    def handed_on(self, call: ast.Call) -> list[tuple[Function, int]]:
        """Functions given to a call to be called there, as in `timed(f, x)`, and their places."""
        return [
            (function, at)
            for at, argument in enumerate(call.args)
            if isinstance(argument, ast.Name)
            for function in self.local.get(argument.id, [])
        ]

    def uses(self, function: Function) -> Iterator[tuple[Function, ast.Call]]:
        """Where a function is called, or given away to be called."""
        for caller in self.functions:
            for call in caller.calls():
                given = [other for other, _ in self.handed_on(call)]
                if caller is not function and function in [*self.called(call), *given]:
                    yield caller, call

    def carries(self, function: Function, value: ast.AST, at: int, depth: int = 0) -> bool:
        """Whether an expression, used at a place of a function, holds validation text."""
        if depth > MAX_DEPTH:
            return False
        key = (id(function), id(value), at)
        if key not in self._known:
            self._known[key] = False  # until it is known; a loop of assignments ends here
            self._known[key] = self._find_out(function, value, at, depth)
        return self._known[key]

    def _find_out(self, function: Function, value: ast.AST, at: int, depth: int) -> bool:
        if isinstance(value, ast.Name):
            return self._name_carries(function, value.id, at, depth)
        if isinstance(value, ast.Constant):
            return isinstance(value.value, str) and "fineweb_val" in value.value
        if isinstance(value, ast.Attribute):
            if VALIDATION.search(value.attr):
                return True
            return value.attr not in COUNTS and self.carries(function, value.value, at, depth + 1)
        if isinstance(value, ast.Subscript | ast.Starred | ast.NamedExpr | ast.Await):
            return self.carries(function, value.value, at, depth + 1)
        if isinstance(value, ast.Call):
            return self._call_carries(function, value, at, depth)
        if isinstance(value, ast.Compare | ast.Lambda | ast.JoinedStr):
            return False
        if isinstance(value, ast.ListComp | ast.GeneratorExp | ast.SetComp):
            return any(self.carries(function, g.iter, at, depth + 1) for g in value.generators)
        return any(
            self.carries(function, child, at, depth + 1) for child in ast.iter_child_nodes(value)
        )

    def _name_carries(self, function: Function, name: str, at: int, depth: int) -> bool:
        if VALIDATION.search(name):
            return True
        for value in function.filled.get(name, []):
            if self.carries(function, value, place(value), depth + 1):
                return True
        values = function.assigned.get(name)
        if values:
            # `x = x.to(device)`: on the right stands the x before it. In a loop it may be the last.
            there, value = ([row for row in values if row[0] < at] or values)[-1]
            return self.carries(function, value, there, depth + 1)
        if name in function.parameters or function.outer is None:
            return name in function.carrying
        return self._name_carries(function.outer, name, place(None), depth + 1)

    def _call_carries(self, function: Function, call: ast.Call, at: int, depth: int) -> bool:
        name = called_name(call)
        if name in COUNTS or name in NO_CONTENT:
            return False
        own = self.called(call)
        if own and (OWN_RESULT.match(name) or any(map(trains, own))):
            return False
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        if isinstance(call.func, ast.Attribute):
            given.append(call.func.value)
        return any(self.carries(function, value, at, depth + 1) for value in given)


def place(node: ast.AST | None) -> int:
    """A position that grows along the text; minified code has many statements a line."""
    if node is None:
        return sys.maxsize
    return int(getattr(node, "lineno", 0)) * 1_000_000 + int(getattr(node, "col_offset", 0))


def _body(node: ast.AST) -> list[ast.AST]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return list(node.body)
    return list(ast.iter_child_nodes(node))


def _note_assignment(function: Function, node: ast.AST) -> None:
    pairs: list[tuple[ast.expr, ast.expr]] = []
    if isinstance(node, ast.Assign):
        pairs = [(target, node.value) for target in node.targets]
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        pairs = [(node.target, node.value)]
    elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
        pairs = [(node.target, node.iter)]
    elif isinstance(node, ast.NamedExpr):
        pairs = [(node.target, node.value)]
    elif isinstance(node, ast.Call) and called_name(node) == "copy_" and node.args:
        _note_filled(function, node.func, node.args[0])
    while pairs:
        target, value = pairs.pop()
        if isinstance(target, ast.Subscript):
            _note_filled(function, target, value)
        elif isinstance(target, ast.Name):
            function.assigned.setdefault(target.id, []).append((place(target), value))
        elif isinstance(target, ast.Tuple | ast.List):
            parts: list[ast.expr] = [value] * len(target.elts)
            if isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts):
                parts = value.elts
            pairs += zip(target.elts, parts, strict=True)


def _note_filled(function: Function, target: ast.expr, value: ast.expr) -> None:
    while isinstance(target, ast.Subscript | ast.Attribute):
        target = target.value
    if isinstance(target, ast.Name) and target.id != "self":
        function.filled.setdefault(target.id, []).append(value)


def _bound(callee: Function, call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    """Parameters of a function and what a call gives for them."""
    names = callee.parameters
    if names[:1] == ["self"] and isinstance(call.func, ast.Attribute):
        names = names[1:]
    yield from zip(names, (a for a in call.args if not isinstance(a, ast.Starred)), strict=False)
    for keyword in call.keywords:
        if keyword.arg in names:
            yield keyword.arg or "", keyword.value


def _handed(callee: Function, call: ast.Call, at: int) -> Iterator[tuple[str, ast.expr]]:
    """What follows a function in a call is usually given to it, in order."""
    yield from zip(callee.parameters, call.args[at + 1 :], strict=False)


def called_name(call: ast.Call) -> str:
    """The last part of what is called: `f` of `f(x)` and of `a.b.f(x)`."""
    if isinstance(call.func, ast.Name):
        return call.func.id
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def trains(function: Function) -> bool:
    """Whether a function changes weights by gradients."""
    names = {called_name(call) for call in function.calls()}
    if not names & {"backward", "grad"}:
        return False
    by_hand = any(
        isinstance(node, ast.AugAssign) and "grad" in ast.unparse(node.value)
        for node in function.nodes
    )
    # `optimizer.step(closure)`: the step stands around the function with the gradient.
    if function.outer is not None and function.outer.name != "<module>":
        names |= {called_name(call) for call in function.outer.calls()} & {"step"}
    return by_hand or bool(names & {"step", "add_", "sub_", "copy_", "mul_", "lerp_"})


def is_scoring(function: Function) -> bool:
    """Whether a function as a whole computes without gradients."""
    node = function.node
    decorators = getattr(node, "decorator_list", [])
    return any(NO_GRAD.search(ast.unparse(decorator)) for decorator in decorators)
