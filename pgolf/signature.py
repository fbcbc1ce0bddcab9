"""What a `_target_` accepts, read from its source: keys and types are checked without importing it.

Importing the target would import torch (1.7 s); reading its source with `ast` takes a millisecond.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib.util
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from pgolf.errors import UserError


@dataclass(frozen=True)
class Parameter:
    """A keyword-only parameter: its annotation and whether it has to be given."""

    annotation: ast.expr | None
    required: bool


@functools.cache
def configuration_parameters(target: str) -> dict[str, Parameter]:
    """Keyword-only parameters of the class or function at a dotted path, by name.

    Those of a dataclass are its fields.

    Raises:
        UserError: no such module, or it defines no such name.
    """
    node = _definition(target)
    if isinstance(node, ast.FunctionDef):
        return _keyword_only(node)
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _keyword_only(item)
    if any(ast.unparse(decorator).startswith("dataclass") for decorator in node.decorator_list):
        fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
        return {ast.unparse(f.target): Parameter(f.annotation, f.value is None) for f in fields}
    return {}


def methods(target: str) -> set[str]:
    """Names of the methods that the class at a dotted path defines itself.

    Raises:
        UserError: no such module, or it defines no such name.
    """
    node = _definition(target)
    return {item.name for item in node.body if isinstance(item, ast.FunctionDef)}


def source_file(target: str) -> Path:
    """The file that defines the class or function at a dotted path.

    Raises:
        UserError: no such module, or it has no source.
    """
    module_name = target.rpartition(".")[0]
    if not module_name:
        raise UserError(f"_target_ {target}: expected a dotted path, package.module.Class")
    parts = module_name.split(".")
    # The outermost package may be found by a hook (an editable install), so all finders are asked;
    # further ones are searched in their parent's folders, where nothing is imported on the way.
    spec = importlib.util.find_spec(parts[0])
    for depth in range(1, len(parts) + 1):
        if spec is None:
            raise UserError(f"_target_ {target}: there is no module {'.'.join(parts[:depth])}")
        if depth < len(parts):
            search = list(spec.submodule_search_locations or [])
            spec = PathFinder.find_spec(".".join(parts[: depth + 1]), search)
    if spec is None or not spec.has_location or not str(spec.origin).endswith(".py"):
        raise UserError(f"_target_ {target}: {module_name} has no source file")
    return Path(str(spec.origin))


def _definition(target: str) -> ast.ClassDef | ast.FunctionDef:
    module_name, _, name = target.rpartition(".")
    path = source_file(target)
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f"{path}:{line}" if line else str(path)
        raise UserError(f"_target_ {target}: {where} is no valid Python: {error}") from error
    found = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
    if name not in found:
        hint = _hint(name, list(found))
        raise UserError(f"_target_ {target}: {module_name} defines no {name}{hint}")
    return found[name]


def _keyword_only(function: ast.FunctionDef) -> dict[str, Parameter]:
    args = function.args
    return {
        arg.arg: Parameter(arg.annotation, default is None)
        for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)
    }


def check_arguments(where: str, target: str, values: dict[str, Any]) -> None:
    """Compare YAML values with what the target accepts.

    Args:
        where: key of the node, for the message, e.g. "model".
        target: dotted path of the class.
        values: the node's keys, resolved, without those that begin with an underscore.

    Raises:
        UserError: an unknown, missing or wrongly typed key, with the accepted ones.
    """
    accepted = configuration_parameters(target)
    for key, value in values.items():
        if key not in accepted:
            known = ", ".join(sorted(accepted)) or "no keys"
            raise UserError(
                f"{where}.{key}: {target} has no such key{_hint(key, list(accepted))}. "
                f"It accepts: {known}"
            )
        annotation = accepted[key].annotation
        if annotation is not None and not _fits(value, annotation):
            raise UserError(
                f"{where}.{key}={value!r} has the wrong type ({type(value).__name__}): "
                f"expected {ast.unparse(annotation)}"
            )
    missing = [key for key, p in accepted.items() if p.required and key not in values]
    if missing:
        raise UserError(f"{where}: missing {', '.join(missing)} (needed by {target})")


def _fits(value: Any, annotation: ast.expr) -> bool:
    """Whether a YAML value fits an annotation; one that is not understood accepts everything."""
    match annotation:
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return _fits(value, left) or _fits(value, right)
        case ast.Constant(value=None):
            return value is None
        case ast.Name(id="int"):
            return isinstance(value, int) and not isinstance(value, bool)
        case ast.Name(id="float"):
            return isinstance(value, int | float) and not isinstance(value, bool)
        case ast.Name(id="bool"):
            return isinstance(value, bool)
        case ast.Name(id="str"):
            return isinstance(value, str)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            items = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            choices = [item.value for item in items if isinstance(item, ast.Constant)]
            return any(value == choice and type(value) is type(choice) for choice in choices)
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            return isinstance(value, list) and all(_fits(v, item) for v in value)
        case ast.Subscript(value=ast.Name(id="dict")):
            return isinstance(value, dict)
    return True


def _hint(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
