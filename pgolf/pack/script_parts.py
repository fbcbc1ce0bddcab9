"""What stands in a packed script for Hydra, progress bars, checkpoints and the run folder.

Nothing of pgolf imports this module: the bundler puts its names in the place of others (see
`pgolf.pack.script`).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import torch
from torch import Tensor

from pgolf.errors import UserError

# The classes of the run's configuration by their dotted paths, and facts about the run: the script
# fills in both.
TARGETS: dict[str, Any] = {}
FACTS: dict[str, Any] = {}


class BuildError(Exception):
    """A part cannot be built."""


def build(config: Any, **options: Any) -> Any:
    """The object that a node of the configuration describes; takes Hydra's own options.

    Raises:
        UserError: the class is not one of this script.
    """
    target = target_named(config["_target_"])
    values = {key: _value(v) for key, v in config.items() if not key.startswith("_")}
    return functools.partial(target, **values) if options.get("_partial_") else target(**values)


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return [_value(item) for item in value]
    if isinstance(value, dict):
        return build(value) if "_target_" in value else {k: _value(v) for k, v in value.items()}
    return value


def target_named(path: str) -> Any:
    """A class by its dotted path in pgolf."""
    if path not in TARGETS:
        raise UserError(f"{path} is not in this script, which has {', '.join(sorted(TARGETS))}")
    return TARGETS[path]


def class_in(package: str, target: Any, file: Path) -> Any:
    """As `pgolf.artifact.find_class`: the class at a dotted path, which lies in the package."""
    if not str(target).startswith(f"{package}."):
        raise UserError(f"{file}: {target} is no class of {package}")
    return target_named(str(target))


def path_of_class(instance: object) -> str:
    """As `pgolf.artifact.class_path`: the dotted path that the instance's class has in pgolf."""
    return next(path for path, target in TARGETS.items() if target is type(instance))


class Bar:
    """A progress bar that shows nothing: the log has the steps."""

    def advance(self, n: float = 1, note: str = "") -> None:
        """Count n more units done."""


@contextmanager
def track(label: str, total: float, unit: str = "step", show: bool = True) -> Iterator[Bar]:
    """As `pgolf.progress.track`."""
    yield Bar()


class NoCheckpoints:
    """A script runs to its end or begins anew."""

    def __init__(self, folder: Path, say: Any = None) -> None:
        pass

    def beat(self, seconds: dict[str, float]) -> None:
        pass

    def note(self, seconds: dict[str, float]) -> None:
        pass

    def used_s(self) -> dict[str, float]:
        return {}

    def save(self, snapshot: dict[str, Any], world: Any) -> None:
        pass

    def load(self, world: Any) -> None:
        return None


class Listed:
    """As `pgolf.data.manifest.Manifest`: all that a manifest.json says, as attributes."""

    @classmethod
    def load(cls, folder: Path) -> Any:
        """Read the manifest of a prepared folder."""
        text = (folder / "manifest.json").read_text(encoding="utf-8")
        return json.loads(text, object_hook=lambda values: SimpleNamespace(**values))


def writer(path: Path, mode: str = "wb") -> IO[Any]:
    """As `pgolf.files.atomic_writer`: a script that is killed begins anew."""
    return open(path, mode)


def save_weights(weights: dict[str, Tensor], path: Path) -> None:
    """As `pgolf.produce.save_weights`, without safetensors."""
    torch.save(weights, path.with_suffix(".pt"))


def load_weights(path: Path, device: str = "cpu") -> dict[str, Tensor]:
    """What `save_weights` wrote."""
    weights: dict[str, Tensor] = torch.load(
        path.with_suffix(".pt"), map_location=device, weights_only=True
    )
    return weights


def bytes_of_code(folder: Path, config: dict[str, Any]) -> int:
    """As `pgolf.shipped.write_code`, but the script is the code.

    Returns:
        the bytes that the packed run counted, so that a quantizer that fills the limit decides as
        it did there.
    """
    code_bytes: int = FACTS["code_bytes"]
    return code_bytes


def no_rows(*values: Any) -> list[dict[str, Any]]:
    """As `pgolf.census.tensor_rows`: the script has no report."""
    return []


def checked_before(where: str, target: str, values: dict[str, Any]) -> None:
    """As `pgolf.signature.check_arguments`, which reads pgolf's source: the run has done it."""


def left_out(*values: Any, **options: Any) -> Any:
    """Stands for code that the packed configuration does not reach."""
    raise RuntimeError("this part of pgolf was left out: the packed configuration does not use it")
