"""Whether a place in a script is ever reached, by the switches around it and around its callers."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pgolf.audit.records.flow import MAX_LIFT, Flow, Function, called_name

CERTAIN, POSSIBLE = "CERTAIN", "POSSIBLE"


@dataclass(frozen=True)
class Hit:
    """A place where a script does what a rule forbids.

    Args:
        fault: the class, in the words of the table of classes.
        line: in the layer of code that was looked at.
        certainty: CERTAIN, or POSSIBLE where only a run could tell.
        why: one plain sentence.
        probe: whose condition it breaks.
    """

    fault: str
    line: int
    certainty: str
    why: str
    probe: str


class Settings:
    """Values of switches: by the log where it lists them, else by their defaults in the code."""

    def __init__(self, tree: ast.Module, logged: dict[str, str]) -> None:
        self._logged = {key.lower(): value for key, value in logged.items()}
        self._defaults: dict[str, bool] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                default = _default(node.value)
                for target in targets:
                    if isinstance(target, ast.Name) and default is not None:
                        self._defaults[target.id.lower()] = default

    def is_off(self, test: ast.expr) -> bool | None:
        """Whether a condition is off; None where that is not known."""
        if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
            values = [self.is_off(value) for value in test.values]
            return True if True in values else (None if None in values else False)
        if isinstance(test, ast.Compare) and len(test.comparators) == 1:
            bound = test.comparators[0]
            is_zero = isinstance(bound, ast.Constant) and bound.value == 0
            return self.is_off(test.left) if is_zero and isinstance(test.ops[0], ast.Gt) else None
        if isinstance(test, ast.Constant):
            return not test.value
        name = getattr(test, "attr", getattr(test, "id", "")).lower()
        if name in self._logged:
            return self._logged[name].strip().lower() in ("false", "0", "0.0", "none", "")
        return None if name not in self._defaults else not self._defaults[name]


def _default(value: ast.expr) -> bool | None:
    """The truth of a setting's default: a constant, also inside `int(environ.get("X", "0"))`."""
    if isinstance(value, ast.Constant):
        return value.value not in (False, 0, None, "", "0", "False", "false", "0.0")
    if isinstance(value, ast.Call) and value.args:
        name = called_name(value)
        if name in ("get", "getenv") and len(value.args) > 1:
            return _default(value.args[1])
        if name in ("int", "bool", "float", "str") and len(value.args) == 1:
            return _default(value.args[0])
    return None


def is_off(settings: Settings, function: Function, node: ast.AST) -> bool | None:
    """True where a condition around a node is off; None where one cannot be known; else False."""
    known: bool | None = False
    for outer in function.around(node):
        if isinstance(outer, ast.If) and node not in _else_nodes(outer):
            off = settings.is_off(outer.test)
            if off:
                return True
            # Conditions on counters and ranks are part of any loop.
            if off is None and _is_switch(outer.test):
                known = None
    return known


def _else_nodes(branch: ast.If) -> set[ast.AST]:
    return {node for part in branch.orelse for node in ast.walk(part)}


def _is_switch(test: ast.expr) -> bool:
    """A bare setting, such as `h.ttt_enabled`, alone or among others, rather than a comparison."""
    if isinstance(test, ast.BoolOp):
        return any(map(_is_switch, test.values))
    return isinstance(test, ast.Name | ast.Attribute)


def reached(flow: Flow, settings: Settings, function: Function, depth: int = 0) -> bool | None:
    """Whether a function is called; None where an unknown switch decides, or a long chain."""
    name = function.name
    if name == "<module>" or name == "forward" or name.startswith("__"):
        return True
    if depth > 2 * MAX_LIFT:
        return None
    found: bool | None = False
    for caller, call in flow.uses(function):
        off = is_off(settings, caller, call)
        if off:
            continue
        outer = reached(flow, settings, caller, depth + 1)
        if outer and off is False:
            return True
        found = None if outer is not False else found
    return found


def only_reached(flow: Flow, settings: Settings, hits: Iterable[Hit]) -> list[Hit]:
    """Hits in code that runs; behind an unknown switch no hit is certain."""
    kept = []
    for hit in hits:
        function = _function_at(flow, hit.line)
        runs = reached(flow, settings, function)
        if runs is not False:
            kept.append(hit if runs else replace(hit, certainty=POSSIBLE))
    return kept


def _function_at(flow: Flow, line: int) -> Function:
    """The innermost function around a line."""
    around = [
        function
        for function in flow.functions
        if getattr(function.node, "lineno", 0) <= line <= (getattr(function.node, "end_lineno", 0))
    ]
    return max(around, key=lambda f: f.node.lineno, default=flow.functions[0])  # type: ignore[attr-defined]
