"""Keys and types of a class, read from its source, against inspect and against lists of values."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pgolf import signature
from pgolf.errors import UserError
from pgolf.signature import check_arguments, configuration_parameters, methods

SOURCE = '''
"""A user's part."""
from typing import Literal

raise RuntimeError("this module must not be imported")

class Part:
    def __init__(self, runtime_object, *, width: int, name: str = "a", unknown: Widget = None):
        pass

class Plain:
    """No settings."""

def build(*, rate: float):
    pass
'''


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that is on the path, in a folder of its own; returns its name."""
    name = "parts_of_a_user"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not to be imported')")
    (tmp_path / name / "part.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    configuration_parameters.cache_clear()
    return name


@pytest.mark.parametrize(
    "target",
    [
        "pgolf.train.trainer.Trainer",
        "pgolf.model.recurrent.RecurrentGPT",
        "pgolf.optim.muon_adamw.MuonAdamW",
        "pgolf.hardware.Hardware",
        "pgolf.quant.rules.Rule",
    ],
)
def test_parameters_are_those_that_inspect_finds(target: str) -> None:
    module, _, name = target.rpartition(".")
    found = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    expected = {
        key: parameter.default is inspect.Parameter.empty
        for key, parameter in found.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert {k: p.required for k, p in configuration_parameters(target).items()} == expected


def test_nothing_is_imported(parts: str) -> None:
    assert set(configuration_parameters(f"{parts}.part.Part")) == {"width", "name", "unknown"}
    assert configuration_parameters(f"{parts}.part.Plain") == {}
    assert set(configuration_parameters(f"{parts}.part.build")) == {"rate"}
    check_arguments("part", f"{parts}.part.Part", {"width": 3, "unknown": object()})


def test_torch_is_not_imported_and_an_installed_package_is_found() -> None:
    code = (
        "import sys; from pgolf.signature import configuration_parameters as f; "
        "assert f('pgolf.train.trainer.Trainer'); assert 'torch' not in sys.modules"
    )
    # -P: nothing but the installation says where pgolf lies.
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("{}.part.Prat", "defines no Prat .did you mean Part"),
        ("{}.prat.Part", "there is no module {}.prat"),
        ("nowhere.at.all.Part", "there is no module nowhere"),
        ("Part", "expected a dotted path"),
        ("sys.exit", "no source file"),
        ("{}.broken.Part", "broken.py:2 is no valid Python"),
    ],
)
def test_a_wrong_target_is_named(parts: str, tmp_path: Path, target: str, message: str) -> None:
    (tmp_path / parts / "broken.py").write_text("x = 1\ndef (:\n")
    with pytest.raises(UserError, match=message.format(parts)):
        configuration_parameters(target.format(parts))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 3, "nmae": "b"}, r"part.nmae: .* no such key \(did you mean name\?\).*width"),
        ({"width": 3, "zzz": 1}, r"no such key\. It accepts: name, unknown, width"),
        ({"width": 3, "runtime_object": 1}, "part.runtime_object: .* no such key"),
        ({"name": "b"}, "missing width"),
        ({"width": "3"}, r"part.width='3' has the wrong type \(str\): expected int"),
        ({"width": None}, "part.width=None has the wrong type"),
    ],
)
def test_wrong_arguments_are_named(parts: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_arguments("part", f"{parts}.part.Part", values)


FITTING = {
    "int": [0, -3],
    "float": [0.5, 3, -1e9],
    "bool": [True, False],
    "str": ["", "a"],
    "int | None": [3, None],
    "None": [None],
    "float | str | None": [0.5, "a", None],
    "Literal['auto', 'on']": ["auto", "on"],
    "Literal[1, 2]": [1, 2],
    "Literal['auto'] | int": ["auto", 7],
    "list[int]": [[], [1, 2]],
    "list[int | None]": [[1, None]],
    "list[list[float]]": [[[0.5, 1]], [[]]],
    "dict[str, int]": [{}, {"a": 1}],
    "Widget": [object(), 1, None],
}
WRONG = {
    "int": [True, 1.0, "1", None, [1]],
    "float": [True, "0.5", None],
    "bool": [0, 1, "true", None],
    "str": [1, None, ["a"]],
    "int | None": [1.5, "None", False],
    "None": [0, False, ""],
    "float | str | None": [True, [1.0]],
    "Literal['auto', 'on']": ["off", True, None, ["auto"]],
    "Literal[1, 2]": [3, True, 1.0, "1"],
    "Literal['auto'] | int": ["on", True],
    "list[int]": [1, [1, "2"], [True], "12", None],
    "list[int | None]": [[1.5]],
    "list[list[float]]": [[1.0], [["a"]]],
    "dict[str, int]": [[], "a"],
}


@pytest.mark.parametrize("annotation", FITTING)
def test_values_fit_annotations(annotation: str) -> None:
    node = ast.parse(annotation, mode="eval").body
    for value in FITTING[annotation]:
        assert signature._fits(value, node), value
    for value in WRONG.get(annotation, []):
        assert not signature._fits(value, node), value


def test_methods_are_those_that_a_class_writes(parts: str) -> None:
    assert methods("pgolf.ttt.none.NoTTT") == {"adapt"}
    assert {"__init__", "score"} <= methods("pgolf.ttt.score_first.ScoreFirstTTT")
    assert methods(f"{parts}.part.Part") == {"__init__"}
    assert methods(f"{parts}.part.Plain") == set()
    with pytest.raises(UserError, match="did you mean Part"):
        methods(f"{parts}.part.Prt")
