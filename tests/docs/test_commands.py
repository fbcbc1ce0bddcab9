"""Commands of the documentation that cannot run here are composed or parsed.

Those that run are in test_tutorial.py, on the tutorial's run.
"""

from __future__ import annotations

import ast
import functools
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from pgolf.cli import _parse, build_parser
from tests.docs.conftest import Copy
from tests.docs.pages import ROOT, Command
from tests.docs.table import COMMANDS, FILLED_IN, INLINE, TABLE, row_of, that_are

pytestmark = pytest.mark.slow


def test_commands_are_found_and_each_has_a_row() -> None:
    assert len(COMMANDS) > 90 and len(INLINE) > 20
    assert {row_of(command).how for command in COMMANDS + INLINE} <= {*CHECKS, "run", "overrides"}
    for row in TABLE:
        found = [c for c in COMMANDS + INLINE if row_of(c) is row]
        assert found, f"{row.pattern}: no command is left for this row"
    with pytest.raises(AssertionError, match="no row"):
        row_of(Command(ROOT / "README.md", 1, "rm -rf outputs"))


def overrides_of(command: Command) -> list[str]:
    """Hydra's words behind launch.py; options of torchrun before it are parsed on the way."""
    words = command.words
    place = next(i for i, word in enumerate(words) if word.endswith("launch.py"))
    if words[0] == "torchrun":
        check_torchrun(command)
    rest = words[place + 1 :]
    known = {"-m", "--multirun", "--help", "--cfg", "job", "--package"}
    assert not [w for w in rest if w.startswith("-") and w not in known], f"{command}"
    return [word for word in rest if "=" in word]


def test_every_configuration_composes(copy: Copy) -> None:
    commands = that_are("overrides", COMMANDS + INLINE)
    overrides = [overrides_of(command) for command in commands]
    faults = copy.faults([*overrides, ["model=gated", "optim.matirx_lr=1"]])
    assert "matirx_lr" in faults.pop(), "the check finds nothing"
    found = [f"{c}: {fault}" for c, fault in zip(commands, faults, strict=True) if fault]
    assert not found, "\n".join(found)


def check_torchrun(command: Command) -> None:
    """Options are torchrun's own."""
    from torch.distributed.run import get_args_parser

    words = command.words
    get_args_parser().parse_args(words[words.index("torchrun") + 1 :])


def check_target(command: Command) -> None:
    """The Makefile has what is made, and the words after it are variables that it uses."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in command.words[1:]:
        name, is_variable, _ = word.partition("=")
        found = f"$({name})" in makefile if is_variable else f"\n{name}:" in makefile
        assert found, f"{command}: the Makefile has no {name}"


def constants(path: Path) -> set[object]:
    """All strings and numbers of a source file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}


def check_script(command: Command) -> None:
    """The script is there, and defines each option that is given."""
    words = command.words
    module = words[1] == "-m"
    path = ROOT / (words[2].replace(".", "/") + ".py" if module else words[1])
    if not path.is_file():
        path = path.with_suffix("") / "__main__.py"
    assert path.is_file(), f"{command}: there is no {path}"
    texts = constants(path)
    if "add_options(" in path.read_text(encoding="utf-8"):  # what all measurements take
        texts |= constants(ROOT / "bench" / "record.py")
    missing = [word for word in words if word.startswith("--") and word not in texts]
    assert not missing, f"{command}: {path} has no {missing}"


def check_options(command: Command) -> None:
    """The subcommand's own parser takes the words."""
    words = [FILLED_IN.get(word, word) if word == "N" else word for word in command.words[1:]]
    if command in INLINE and all(re.fullmatch(r"[a-z-]+", word) for word in words):
        words.append("--help")  # a sentence names the subcommand alone
    try:
        _parse(parser(), words)
    except SystemExit as error:
        assert error.code == 0, f"{command}: see above for what is wrong"


def check_extra(command: Command) -> None:
    """The extras that are to be installed exist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name in re.findall(r"\[([\w,]+)\]", command.text):
        assert set(name.split(",")) <= project["optional-dependencies"].keys(), f"{command}"


def check_shell(command: Command) -> None:
    """The Makefile makes the environment that is activated."""
    assert "VENV := .venv\n" in (ROOT / "Makefile").read_text(encoding="utf-8")


@functools.cache
def parser():  # type: ignore[no-untyped-def]
    return build_parser()


CHECKS: dict[str, Callable[[Command], None]] = {
    "torchrun": check_torchrun,
    "target": check_target,
    "script": check_script,
    "options": check_options,
    "extra": check_extra,
    "shell": check_shell,
}


@pytest.mark.parametrize(
    "command", [c for how in CHECKS for c in that_are(how, COMMANDS + INLINE)], ids=str
)
def test_what_cannot_run_here_is_spelt_right(command: Command) -> None:
    CHECKS[row_of(command).how](command)


@pytest.mark.parametrize(
    ("command", "where"),
    [
        ("pgolf inspect RUN --verbose", "options"),
        ("pgolf reprot RUN", "options"),
        ("make documentation", "target"),
        ("python bench/nothing.py", "script"),
        ("python bench/gpu.py --fast", "script"),
        ("pip install 'pgolf[cloud]'", "extra"),
        ("torchrun --workers 8 train_gpt.py", "torchrun"),
    ],
)
def test_what_is_spelt_wrong_is_found(command: str, where: str) -> None:
    with pytest.raises((AssertionError, SystemExit)):
        CHECKS[where](Command(ROOT / "README.md", 1, command))


def test_inline_commands_that_would_run_are_spelt_right() -> None:
    for command in that_are("run", INLINE):
        if command.text.startswith("pgolf ") and "--help" not in command.text:
            check_options(command)
