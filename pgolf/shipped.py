"""The code that is shipped with the weights and counted with them: the modules a run has used."""

from __future__ import annotations

import ast
import sys
import zipfile
from pathlib import Path
from typing import Any

from pgolf.errors import UserError
from pgolf.files import atomic_writer

CODE_FILE = "code.zip"
# What the evaluate job imports besides what the produce job has loaded already.
EVALUATE_MODULES = ("pgolf.agent", "pgolf.worker", "pgolf.workers", "pgolf.evaluate")
# Groups whose classes are needed to read and score an artifact.
SHIPPED_GROUPS = ("model", "codec", "eval")
EPOCH = (1980, 1, 1, 0, 0, 0)


def check_shippable(config: dict[str, Any]) -> None:
    """Raises UserError when a part that scoring needs lies outside pgolf, so would not be shipped.

    Args:
        config: of the run, resolved.
    """
    for group in SHIPPED_GROUPS:
        target = config[group]["_target_"]
        if not target.startswith(f"pgolf.{group}."):
            raise UserError(
                f"{group}._target_={target}: scoring needs this class, and only pgolf itself is "
                f"shipped with the weights: put its file into pgolf/{group}/"
            )


def write_code(folder: Path, also: tuple[str, ...] = ()) -> int:
    """Write `code.zip`, importable as it is, with all pgolf modules in use; returns its bytes.

    Comments and docstrings are left out, names are kept. The evaluate workers import pgolf from
    this file, so it is proved complete by every run.

    Args:
        also: further modules, e.g. that of the configured evaluator.
    """
    names = {name for name in sys.modules if name == "pgolf" or name.startswith("pgolf.")}
    names |= {*EVALUATE_MODULES, *also}
    root = Path(__file__).resolve().parent.parent
    with (
        atomic_writer(folder / CODE_FILE) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
    ):
        for name in sorted(names):
            path = root / Path(*name.split("."))
            path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            # A fixed date makes equal code equal bytes.
            entry = zipfile.ZipInfo(str(path.relative_to(root)), EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, strip(path.read_text(encoding="utf-8")))
    return (folder / CODE_FILE).stat().st_size


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
