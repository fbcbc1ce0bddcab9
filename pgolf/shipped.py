"""The code that is shipped with the weights and counted with them: all that scoring imports."""

from __future__ import annotations

import ast
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pgolf.errors import UserError
from pgolf.files import atomic_writer, sha256_file, sha256_json
from pgolf.signature import methods

CODE_FILE = "code.zip"
# Where the evaluate job begins; the run's own parts are loaded by name.
EVALUATE_MODULES = ("pgolf.agent", "pgolf.worker", "pgolf.evaluate")
ROOT = Path(__file__).resolve().parent.parent
# Groups whose classes are needed to read and score an artifact; ttt joins where it runs then.
SHIPPED_GROUPS = ("model", "codec", "eval")
ADAPTIVE_MODULES = ("pgolf.ttt.ledger",)
KERNELS = "pgolf.kernel."
EPOCH = (1980, 1, 1, 0, 0, 0)


def adapts_while_scoring(config: dict[str, Any]) -> bool:
    """Whether test-time training runs in the evaluate job, from the artifact.

    Its class says so by its methods: `score` runs there, `adapt` before quantization.

    Args:
        config: of the run, resolved.

    Raises:
        UserError: it has neither or both.
    """
    target = config["ttt"]["_target_"]
    found = methods(target) & {"adapt", "score"}
    if len(found) != 1:
        raise UserError(
            f"ttt._target_={target} has {len(found)} of the methods adapt (before quantization) "
            "and score (while evaluating): write exactly one of them"
        )
    return found == {"score"}


def shipped_groups(config: dict[str, Any]) -> tuple[str, ...]:
    """Groups of this run whose classes are needed to read and score its artifact."""
    return (*SHIPPED_GROUPS, "ttt") if adapts_while_scoring(config) else SHIPPED_GROUPS


def later_groups(config: dict[str, Any]) -> tuple[str, ...]:
    """Groups whose values may be others when a finished run is scored again."""
    return ("hardware", "eval", "ttt") if adapts_while_scoring(config) else ("hardware", "eval")


def check_code(path: Path) -> None:
    """Raises UserError where shipped code is missing or damaged: Python would take other code."""
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except (OSError, zipfile.BadZipFile) as error:
        wrong = str(error)
    if wrong is not None:
        raise UserError(f"{path}: damaged or missing ({wrong}): copy it again, or repeat the run")


def check_shippable(config: dict[str, Any]) -> None:
    """Raises UserError when a part that scoring needs lies outside pgolf, so would not be shipped.

    Args:
        config: of the run, resolved.
    """
    for group in shipped_groups(config):
        target = config[group]["_target_"]
        if not target.startswith(f"pgolf.{group}."):
            raise UserError(
                f"{group}._target_={target}: scoring needs this class, and only pgolf itself is "
                f"shipped with the weights: put its file into pgolf/{group}/"
            )


def write_code(folder: Path, config: dict[str, Any]) -> int:
    """Write `code.zip`, importable as it is, with all that scoring needs; returns its bytes.

    Comments and docstrings are left out, names are kept. The evaluate workers import pgolf from
    this file, so it is proved complete by every run.

    Args:
        config: of the run; the classes of `shipped_groups` are shipped.
    """
    with (
        atomic_writer(folder / CODE_FILE) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
    ):
        for path in shipped_files(config):
            # A fixed date makes equal code equal bytes.
            entry = zipfile.ZipInfo(str(path.relative_to(ROOT)), EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, strip(path.read_text(encoding="utf-8")))
    return (folder / CODE_FILE).stat().st_size


def shipped_files(config: dict[str, Any]) -> list[Path]:
    """Source files that scoring a run's artifact imports, in a fixed order."""
    groups = shipped_groups(config)
    parts = [config[group]["_target_"].rpartition(".")[0] for group in groups]
    parts += ADAPTIVE_MODULES if "ttt" in groups else ()
    return [_source(name) for name in sorted(closure([*EVALUATE_MODULES, *parts]))]


def code_fingerprint(config: dict[str, Any]) -> str:
    """Equal where the shipped code would be; for the key of the stage that ships it."""
    return sha256_json([sha256_file(path) for path in shipped_files(config)])


def closure(modules: list[str]) -> set[str]:
    """These modules of pgolf, their packages, and all that they import when they are imported.

    An import inside a function is followed in `pgolf.kernel`, where the device decides which form
    of a kernel is loaded. Elsewhere it is not: it serves another job (`pgolf.worker` has both), or
    names a part that is listed.
    """
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        package = name.rpartition(".")[0]
        waiting += [package] if package else []
        tree = ast.parse(_source(name).read_text(encoding="utf-8"))
        waiting += _imports(ast.walk(tree) if name.startswith(KERNELS) else tree.body)
    return found


def _imports(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Modules of pgolf that these statements import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.partition(".")[0] == "pgolf")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "pgolf":
            assert node.module is not None
            yield node.module
            members = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (member for member in members if _source(member).is_file())


def _source(name: str) -> Path:
    path = ROOT / Path(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def strip(source: str) -> str:
    """Python source without comments and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[0] if node.body else None
        is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        if is_text and isinstance(first.value.value, str):  # type: ignore[union-attr]
            node.body = node.body[1:]
            if not node.body and not isinstance(node, ast.Module):
                node.body = [ast.Pass()]
    return ast.unparse(tree)
