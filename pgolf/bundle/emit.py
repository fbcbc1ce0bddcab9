"""The text of the file: imports, then each module's kept statements with their final names."""

from __future__ import annotations

import ast
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from pgolf.bundle.module import Method, Module, Statement
from pgolf.bundle.naming import final_names
from pgolf.bundle.reach import Name, Reach
from pgolf.bundle.scopes import BundleError, Found, Origin, Use

Edit = tuple[int, int, bytes]


@dataclass(frozen=True)
class Bundle:
    """Several modules as one.

    Args:
        text: the file, without anything that runs it.
        names: how the file calls each root, by its dotted path.
        modules: bytes of each module's part, in the order of the file.
        external: modules of others that are imported, dotted, functions' own imports included.
    """

    text: str
    names: dict[str, str]
    modules: dict[str, int]
    external: set[str]


def bundle(reach: Reach, roots: list[str]) -> Bundle:
    """Put all that is kept into one text.

    Args:
        roots: dotted paths of names in `reach`.

    Raises:
        BundleError: something cannot be said in one file.
    """
    order = _module_order(reach)
    final = final_names(reach, order)
    parts = {name: _module_text(reach, reach.sources.module(name), final) for name in order}
    parts = {name: text for name, text in parts.items() if text}
    imports, external = _imports(reach, final)
    names = {}
    for root in roots:
        module, _, name = root.rpartition(".")
        names[root] = final[reach.sources.resolve((module, name))]
    return Bundle(
        text="\n\n".join([imports, *parts.values()]),
        names=names,
        modules={name: len(text.encode()) for name, text in parts.items()},
        external=external,
    )


def _module_order(reach: Reach) -> list[str]:
    """Modules with something kept, each after those that it imports at its top."""
    wanted = {name.module for name in reach.used if name.inlined}
    done: list[str] = []
    path: list[str] = []

    def visit(name: str) -> None:
        if name in done:
            return
        if name in path:
            raise BundleError(f"modules import each other: {' - '.join([*path, name])}")
        path.append(name)
        module = reach.sources.module(name)
        dotted: list[Origin] = [(n, None) for names in module.dotted.values() for n in names]
        for origin in [*module.imports.values(), *dotted]:
            if reach.sources.resolves(origin[0]):
                found = reach.sources.resolve(origin)
                if found.inlined and found.module in wanted and found.module != name:
                    visit(found.module)
        path.pop()
        done.append(name)

    for name in sorted(wanted):
        visit(name)
    return done


def _module_text(reach: Reach, module: Module, final: dict[Name, str]) -> str:
    kept = [statement for statement in module.statements if statement in reach.kept]
    if not kept:
        return ""
    texts = []
    for statement in kept:
        edits = _edits(reach, statement, final)
        changed = _apply(module.source, statement.start, statement.end, edits)
        short = not isinstance(statement.node, ast.FunctionDef | ast.ClassDef)
        texts.append((changed.decode().strip("\n"), short))
    lines = texts[0][0]
    for (text, short), (_, before) in zip(texts[1:], texts, strict=False):
        lines += ("\n" if short and before else "\n\n\n") + text
    gap = "\n" if isinstance(kept[0].node, ast.Assign | ast.AnnAssign) else "\n\n"
    title = f" {module.name} "
    head = f"# --{title:-<95}\n" + "".join(f"# {line}".rstrip() + "\n" for line in _doc(module))
    return f"{head}{gap}{lines}\n"


def _doc(module: Module) -> list[str]:
    return [line for part in module.doc.splitlines() for line in textwrap.wrap(part, 96) or [""]]


def _edits(reach: Reach, statement: Statement, final: dict[Name, str]) -> list[Edit]:
    """What is changed in a statement: names, imports, casts, and methods that nobody calls."""
    module, found = statement.module, statement.found
    edits = list(_renamed(reach, statement, final))
    for node in found.globals:
        own = [final.get(Name(module.name, n, True), n) for n in node.names]
        if own != node.names:
            edits.append((*_place(module, node), f"global {', '.join(own)}".encode()))
    edits += _without_imports(module, found)
    for call in found.casts:
        start, end = _place(module, call)
        inner_start, inner_end = _place(module, call.args[1])
        bare = isinstance(call.args[1], ast.Name | ast.Attribute | ast.Call | ast.Subscript)
        edits.append((start, inner_start, b"" if bare else b"("))
        edits.append((inner_end, end, b"" if bare else b")"))
    gone = [m for m in statement.methods if m not in reach.kept]
    edits = [e for e in edits if not any(m.start <= e[0] < m.end for m in gone)]
    edits += [(m.start - _blank_before(module, m), m.end, b"") for m in gone]
    if gone and isinstance(statement.node, ast.ClassDef):
        edits += _filled(statement, gone)
    return edits


def _blank_before(module: Module, method: Method) -> int:
    return int(module.source[method.start - 2 : method.start] == b"\n\n")


def _filled(statement: Statement, gone: list[Method]) -> Iterator[Edit]:
    """`pass` where a class has lost everything."""
    body = statement.node.body  # type: ignore[attr-defined]
    spans = {m.start for m in gone}
    if all(statement.module.span(node)[0] in spans for node in body):
        yield (statement.end, statement.end, b"    pass\n")


def _renamed(reach: Reach, statement: Statement, final: dict[Name, str]) -> Iterator[Edit]:
    module = statement.module
    for name in statement.names:
        chosen = final.get(Name(module.name, name, True), name)
        if chosen != name and isinstance(statement.node, ast.FunctionDef | ast.ClassDef):
            kind = b"class " if isinstance(statement.node, ast.ClassDef) else b"def "
            line = module.offset(statement.node.lineno, statement.node.col_offset)
            start = line + len(kind)
            assert module.source[line:start] == kind
            yield start, start + len(name), chosen.encode()
    texts: dict[ast.JoinedStr, list[tuple[Use, str]]] = {}
    for use in statement.found.uses:
        target, said = reach.sources.meaning(module, use)
        written = final.get(target, "") if target else "__file__" if said is not use.node else ""
        if target is None and isinstance(said, ast.Attribute):
            written = said.attr
        if not written or (said is use.node and use.node.id == written):
            continue
        start, end = _place(module, said)
        if use.text is not None and not _is_there(module, use, start):
            texts.setdefault(use.text, []).append((use, written))
        else:
            yield start, end, written.encode()
    for node, uses in texts.items():
        yield _rewritten(module, node, uses)


def _is_there(module: Module, use: Use, start: int) -> bool:
    """Before Python 3.12 the places of names inside f-strings may be wrong."""
    name = use.node.id.encode()
    return module.source[start : start + len(name)] == name


def _rewritten(module: Module, node: ast.JoinedStr, uses: list[tuple[Use, str]]) -> Edit:
    for use, written in uses:
        if use.chain:
            raise BundleError(f"{module.name}:{node.lineno}: an attribute of a module in a string")
        use.node.id = written
    return (*_place(module, node), ast.unparse(node).encode())


def _without_imports(module: Module, found: Found) -> Iterator[Edit]:
    gone = {id(node) for node, _ in found.imports}
    for node, body in found.imports:
        start, end = module.span(node)
        if all(id(other) in gone for other in body) and node is body[-1]:
            yield (*_place(module, node), b"pass")
        else:
            after = module.source[end : end + 1]
            yield start, end + (after == b"\n"), b""


def _place(module: Module, node: ast.expr | ast.stmt) -> tuple[int, int]:
    assert node.end_lineno is not None and node.end_col_offset is not None
    return (
        module.offset(node.lineno, node.col_offset),
        module.offset(node.end_lineno, node.end_col_offset),
    )


def _apply(source: bytes, start: int, end: int, edits: list[Edit]) -> bytes:
    parts, at = [], start
    for first, last, text in sorted(edits):
        if first < at:
            raise BundleError(f"two changes of {source[first:last].decode()!r}")
        parts += [source[at:first], text]
        at = last
    return b"".join([*parts, source[at:end]])


def _imports(reach: Reach, final: dict[Name, str]) -> tuple[str, set[str]]:
    """The import statements, the standard library first, and all modules that are imported."""
    plain: set[str] = set()
    members: dict[str, set[str]] = {}
    for name in (n for n in reach.used if not n.inlined):
        written = final[name]
        if name.name is None:
            dotted = _dotted(reach, name.module) if written == name.module else set()
            renamed = name.module if written == name.module else f"{name.module} as {written}"
            plain |= dotted | {renamed}
        else:
            alias = name.name if written == name.name else f"{name.name} as {written}"
            members.setdefault(name.module, set()).add(alias)
    lines = {True: [], False: []}  # type: dict[bool, list[str]]
    for module in sorted(plain):
        lines[_is_standard(module)].append(f"import {module}")
    for module in sorted(members):
        text = f"from {module} import {', '.join(sorted(members[module]))}"
        if len(text) > 100:
            text = f"from {module} import (\n    {', '.join(sorted(members[module]))},\n)"
        lines[_is_standard(module)].append(text)
    external = {name.module for name in reach.used if not name.inlined}
    for statement in reach.statements():
        external |= statement.found.external
    blocks = ["\n".join(block) for block in (lines[True], lines[False]) if block]
    return "\n\n".join(["from __future__ import annotations", *blocks]), external


def _dotted(reach: Reach, root: str) -> set[str]:
    """`import a.b` of the modules that say so."""
    owners = {statement.module.name for statement in reach.statements()}
    found = (reach.sources.module(name).dotted.get(root, set()) for name in owners)
    return {name for names in found for name in names if name != root}


def _is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names
