"""The shape of the source: who imports whom, where the configuration stops, how long things are.

Import direction: cli and launch -> pipeline -> assembly -> packages -> kernel, all on a foundation
that knows none of them. A package is closed but for the modules in PUBLIC.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CODE = ROOT / "pgolf"
SOURCES = [ROOT / "launch.py", *sorted(CODE.rglob("*.py"))]

# Modules that anything may use; they use each other alone.
FOUNDATION = {
    *("errors", "files", "say", "events", "progress", "clock", "score", "protocols", "result"),
    *("distributed", "checkpoint", "hardware", "provenance", "signature", "stage", "container"),
    *("workers", "state", "new_folder"),
}
# What packages offer to each other: the data that passes between stages, and pure functions.
PUBLIC = {
    *("data.manifest", "data.stream", "data.prefetch", "tokenizer.store", "train.schedule"),
    *("ttt.adapted", "quant.codes", "sandbox.run", "eval.by_document"),
}
# Packages that join others into what a command does; they use whatever the edges use.
ASSEMBLIES = {"pack", "auditing", "upstream"}
# Nothing imports the first two; only they import the third.
EDGES = {"cli", "launch", "pipeline"}
COMMANDS = "commands"

MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 80


def name_of(path: Path) -> str:
    """Dotted name below pgolf, "" for pgolf itself."""
    relative = path.relative_to(CODE if path.is_relative_to(CODE) else ROOT).with_suffix("")
    return ".".join(part for part in relative.parts if part != "__init__")


MODULES = {name_of(path): path for path in SOURCES}
PACKAGES = {path.parent.name for path in CODE.glob("*/__init__.py")}


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from statements(child)


def imports_of(path: Path) -> set[str]:
    """Modules of pgolf that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            module = node.module or ""
            members = {f"{module}.{alias.name}" for alias in node.names}
            # `from pgolf import config` names a module, `from pgolf.files import f` a function.
            modules = {m for m in members if m.removeprefix("pgolf.") in MODULES}
            found |= modules or {module}
    return {name.removeprefix("pgolf.") for name in found if name.startswith("pgolf.")}


def may_import(importer: str, imported: str) -> bool:
    """The allowed direction between two modules of pgolf."""
    package = importer.partition(".")[0]
    # The subcommands of `pgolf` are edges, too.
    is_edge = importer in EDGES or package == COMMANDS
    if imported in ("cli", "launch") or (imported == "pipeline" and not is_edge):
        return False
    if imported.startswith(COMMANDS):
        return is_edge
    if package == COMMANDS:
        return True
    if importer in FOUNDATION:
        return imported in FOUNDATION
    if package == "kernel":
        return imported == "errors" or imported.startswith("kernel")
    if package in PACKAGES - ASSEMBLIES:
        own = imported == package or imported.startswith(f"{package}.")
        # The fused form of a kernel is reached through its module, which also has the plain one.
        is_kernel = imported.startswith("kernel.") and not imported.startswith("kernel.fused")
        return own or imported in FOUNDATION or imported in PUBLIC or is_kernel
    return True  # the edges and what assembles packages into stages


@pytest.mark.parametrize("importer", sorted(MODULES))
def test_imports_go_one_way(importer: str) -> None:
    wrong = [name for name in imports_of(MODULES[importer]) if not may_import(importer, name)]
    assert not wrong, f"{importer} must not import {wrong}; see the tables of this test"


def test_the_tables_name_modules_that_exist() -> None:
    assert not (FOUNDATION | PUBLIC | EDGES) - MODULES.keys()
    assert not ASSEMBLIES - PACKAGES


def test_the_direction_is_really_checked() -> None:
    assert may_import("cli", "pipeline") and may_import("launch", "config")
    assert may_import("pipeline", "report.page") and may_import("ttt.prequant", "data.stream")
    for importer, imported in (
        ("files", "config"),
        ("clock", "train.trainer"),
        ("kernel.attention", "model.norm"),
        ("model.block", "ttt.prequant"),
        ("model.block", "kernel.fused.enter_block"),
        ("optim.muon", "config"),
        ("quant.gptq", "produce"),
        ("produce", "pipeline"),
        ("pipeline", "cli"),
        ("produce", "commands.inspect"),
        ("data.local", "commands.output"),
    ):
        assert not may_import(importer, imported), (importer, imported)


def test_the_configuration_object_stays_at_the_edge() -> None:
    edges = {"launch", "config", "worker", "cli"}
    for name, path in MODULES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert "cfg" not in names or name in edges, f"{path}: cfg"


def uses(path: Path, module: str, attributes: set[str]) -> set[str]:
    """Attributes of a module that a file reads, also by `from module import attribute`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == module:
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and node.module == module:
            found |= {alias.name for alias in node.names}
    return found & attributes


def test_the_environment_is_read_in_few_places() -> None:
    readers = {"distributed", "provenance", "workers", "launchers", "launch"}
    readers |= {"sweeps.slots", "sweeps.watch"}  # what a sweep tells its jobs
    for name, path in MODULES.items():
        found = uses(path, "os", {"environ", "getenv", "putenv"})
        assert not found or name in readers, f"{path}: os.{found}"


def test_timers_are_read_in_few_places() -> None:
    timers = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time"}
    for name, path in MODULES.items():
        found = uses(path, "time", timers)
        assert not found or name in {"clock", "progress", "started"}, f"{path}: time.{found}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: name_of(path) or "pgolf")
def test_files_and_functions_are_short(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    lines = len(source.splitlines())
    assert lines <= MAX_FILE_LINES, f"{path} has {lines} lines"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{path}: {node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: name_of(path) or "pgolf")
def test_every_module_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package_marker = path.name == "__init__.py" and not tree.body
    assert package_marker or ast.get_docstring(tree), f"{path} has no docstring"


# Whatever answers a question on the command line must not wait for torch.
@pytest.mark.parametrize("name", ["config", "pipeline", "cli", "sweep", "signature", "prepare"])
def test_torch_is_imported_by_workers_only(name: str) -> None:
    if name not in MODULES:
        pytest.skip(f"no pgolf.{name} yet")
    code = f"import sys, pgolf.{name}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or f"pgolf.{name} imports torch"
