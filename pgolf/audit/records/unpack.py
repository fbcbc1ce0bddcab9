"""Code packed into a string, `exec(decompress(b85decode("...")))`, laid open as text.

Nothing is executed: expressions of constants, slices, joins and known decoders are evaluated by
hand, with limits on what a decoder may give back.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pgolf.audit.records.decoders import (
    CONSTANTS,
    DECODERS,
    MAX_LAYER_BYTES,
    NotStatic,
    TooLarge,
)

MAX_LAYERS, MAX_PARTS = 8, 32
MAX_DEPTH = 60


@dataclass(frozen=True)
class Layer:
    """Source text found inside another.

    Args:
        text: the source.
        how: the decoders that led to it, outermost first; "" for the file itself.
        line: where it stood in the layer around it.
        tree: parsed, None where it is no Python.
    """

    text: str
    how: str
    line: int
    tree: ast.Module | None


def parse(text: str) -> ast.Module | None:
    """The syntax tree, None where the text is no Python or nested beyond reason."""
    if len(text) > MAX_LAYER_BYTES:
        return None
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def unpack(text: str) -> tuple[list[Layer], list[str]]:
    """All layers of a source, itself first; and what could not be laid open, in words."""
    layers = [Layer(text, "", 1, parse(text))]
    problems: list[str] = []
    depths = [0]
    for index, layer in enumerate(layers):  # grows while it is walked
        for call, known in _executions(layer.tree) if layer.tree else ():
            where = f"layer {index}, line {call.lineno}"
            if depths[index] == MAX_LAYERS or len(layers) == MAX_PARTS:
                problems.append(f"{where}: more than {MAX_LAYERS} layers of packed code")
                return layers, problems
            try:
                layers.append(_inside(call, known))
                depths.append(depths[index] + 1)
            except TooLarge as error:
                problems.append(
                    f"{where}: packed code unpacks to more than {error} bytes (zip bomb)"
                )
            except NotStatic as error:
                problems.append(
                    f"{where}: code is run that cannot be read without running it ({error})"
                )
    return layers, problems


def _executions(tree: ast.Module) -> Iterator[tuple[ast.Call, Names]]:
    """Calls of exec and eval, by whatever name."""
    known = Names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            name = known.dotted(node.func).removeprefix("builtins.").removeprefix("__builtins__.")
            if name in ("exec", "eval"):
                yield node, known


def _inside(call: ast.Call, known: Names) -> Layer:
    known.used = []
    try:
        value = known.evaluate(call.args[0])
    except (TypeError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise NotStatic(f"{type(error).__name__}: {error}"[:120]) from error
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        raise NotStatic(f"what is executed is a {type(value).__name__}")
    inner = parse(value)
    if inner is None:
        raise NotStatic("what is executed is no Python text")
    return Layer(value, ">".join(reversed(known.used)) or "constant", call.lineno, inner)


class Names:
    """Values of a module's names, as far as constants and known decoders give them.

    Args:
        tree: only assignments and imports at its top level count.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.used: list[str] = []
        self._modules: dict[str, str] = {}
        self._values: dict[str, ast.expr] = {}
        for node in tree.body:
            if isinstance(node, ast.Import):
                self._modules |= {a.asname or a.name: a.name for a in node.names}
            elif isinstance(node, ast.ImportFrom):
                origin = node.module or ""
                self._modules |= {a.asname or a.name: f"{origin}.{a.name}" for a in node.names}
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    self._assign(target, node.value)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            # Assigned twice: which value holds at the call is not known.
            self._values[target.id] = ast.Name("...") if target.id in self._values else value
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for one, other in zip(target.elts, value.elts, strict=False):
                self._assign(one, other)

    def dotted(self, node: ast.expr, depth: int = 0) -> str:
        """Full name of a function or constant, imports resolved; "" where it has none."""
        if depth > MAX_DEPTH:
            return ""
        if isinstance(node, ast.Name):
            if node.id in self._modules:
                return self._modules[node.id]
            value = self._values.get(node.id)
            # `d = zlib.decompress` is an alias.
            if isinstance(value, ast.Attribute | ast.Call | ast.Name):
                return self.dotted(value, depth + 1) or node.id
            return node.id
        if isinstance(node, ast.Attribute):
            return f"{self.dotted(node.value, depth + 1)}.{node.attr}"
        if not isinstance(node, ast.Call) or not node.args:
            return ""
        called, last = self.dotted(node.func, depth + 1), node.args[-1]
        if not isinstance(last, ast.Constant):
            return ""
        if called in ("__import__", "importlib.import_module"):
            return str(last.value) if isinstance(last.value, str) else ""
        return (
            f"{self.dotted(node.args[0], depth + 1)}.{last.value!s}" if called == "getattr" else ""
        )

    def evaluate(self, node: ast.expr, depth: int = 0) -> Any:
        """The value of an expression.

        Raises:
            NotStatic: it depends on what only a run would know.
            TooLarge: it is larger than any source.
        """
        if depth > MAX_DEPTH:
            raise NotStatic("nested too deeply")
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name | ast.Attribute):
            return self._name(node, depth)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return _joined(
                self.evaluate(node.left, depth + 1), self.evaluate(node.right, depth + 1)
            )
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return self.evaluate(node.left, depth + 1) | self.evaluate(node.right, depth + 1)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self.evaluate(node.operand, depth + 1)
        if isinstance(node, ast.List | ast.Tuple):
            return [self.evaluate(item, depth + 1) for item in node.elts]
        if isinstance(node, ast.Dict):
            return {
                self.evaluate(key, depth + 1): self.evaluate(value, depth + 1)
                for key, value in zip(node.keys, node.values, strict=True)
                if key is not None
            }
        if isinstance(node, ast.Subscript):
            return self._part(node, depth)
        if isinstance(node, ast.Call):
            return self._call(node, depth)
        raise NotStatic(ast.unparse(node)[:60])

    def _name(self, node: ast.Name | ast.Attribute, depth: int) -> Any:
        if isinstance(node, ast.Name) and node.id in self._values:
            return self.evaluate(self._values[node.id], depth + 1)
        name = self.dotted(node)
        if name not in CONSTANTS:
            raise NotStatic(name[:60] or "a name")
        return CONSTANTS[name]

    def _part(self, node: ast.Subscript, depth: int) -> Any:
        value = self.evaluate(node.value, depth + 1)
        if isinstance(node.slice, ast.Slice):
            parts = (node.slice.lower, node.slice.upper, node.slice.step)
            return value[
                slice(*(None if p is None else self.evaluate(p, depth + 1) for p in parts))
            ]
        return value[self.evaluate(node.slice, depth + 1)]

    def _call(self, node: ast.Call, depth: int) -> Any:
        name = self.dotted(node.func)
        decoder = DECODERS.get(name)
        if decoder is None and isinstance(node.func, ast.Attribute):
            return self._method(node, node.func, depth)
        if decoder is None:
            raise NotStatic(f"{name or ast.unparse(node.func)}(...)"[:60])
        arguments = [self.evaluate(argument, depth + 1) for argument in node.args]
        named = {k.arg: self.evaluate(k.value, depth + 1) for k in node.keywords if k.arg}
        self.used.append(name)
        return _guarded(decoder, name, arguments, named)

    def _method(self, node: ast.Call, func: ast.Attribute, depth: int) -> Any:
        """Methods of text that change its form: decode, encode, replace, strip, join."""
        if func.attr == "decompress" and self.dotted(func.value) == "":
            raise NotStatic(ast.unparse(func)[:60])
        value = self.evaluate(func.value, depth + 1)
        arguments = [self.evaluate(argument, depth + 1) for argument in node.args]
        methods = {"decode", "encode", "replace", "strip", "join"}
        if func.attr not in methods or not isinstance(value, str | bytes):
            raise NotStatic(f".{func.attr}(...)")
        if func.attr == "replace" and len(arguments) > 1 and len(arguments[1]) > len(arguments[0]):
            grown = len(value) + value.count(arguments[0]) * len(arguments[1])
            if grown > MAX_LAYER_BYTES:
                raise TooLarge(f"{MAX_LAYER_BYTES:,}")
        if func.attr == "join" and arguments and isinstance(arguments[0], list | str | bytes):
            parts = arguments[0]
            items = parts if isinstance(parts, list) else []
            grown = len(value) * len(parts) + sum(len(item) for item in items)
            if grown > MAX_LAYER_BYTES:
                raise TooLarge(f"{MAX_LAYER_BYTES:,}")
        return _guarded(getattr(value, func.attr), func.attr, arguments, {})


def _joined(left: Any, right: Any) -> Any:
    if type(left) is not type(right) or type(left) not in (str, bytes, list):
        raise NotStatic("a sum of values that are no text")
    if len(left) + len(right) > MAX_LAYER_BYTES:
        raise TooLarge(f"{MAX_LAYER_BYTES:,}")
    return left + right


def _guarded(function: Callable[..., Any], name: str, arguments: list[Any], named: dict) -> Any:
    """Call a decoder; whatever it finds wrong with its input, the code would find as well."""
    try:
        return function(*arguments, **named)
    except (NotStatic, TooLarge):
        raise
    except Exception as error:
        raise NotStatic(f"{name}: {type(error).__name__}: {error}"[:120]) from error
