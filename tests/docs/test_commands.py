"""Every command of the documentation runs, or where it cannot run here is composed or parsed.

TABLE says what happens to which command, and why one is not run; a command that no row takes is an
error. The first row whose pattern is found counts.
"""

from __future__ import annotations

import ast
import functools
import re
import shlex
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pgolf.cli import _parse, build_parser
from tests.docs.conftest import Copy
from tests.docs.pages import PAGES, ROOT, Command, commands_of, inline_commands_of

pytestmark = pytest.mark.slow

COMMANDS = [command for page in PAGES for command in commands_of(page)]
INLINE = [command for page in PAGES for command in inline_commands_of(page)]
# What a reader fills in, for commands that are run: a finished run, a folder, a text.
FILLED_IN = {
    **dict.fromkeys(("RUN", "ARTIFACT"), "{run}"),
    **dict.fromkeys(("FILE", "TEXT", "INPUT"), "texts.jsonl"),
    **{"SWEEP": "trial", "FOLDER": "outputs", "N": "3"},
}


@dataclass(frozen=True)
class Row:
    """What is done with the commands that a pattern is found in.

    Args:
        how: run, or check without running: overrides, options, script, target.
        why: why it is not run, or what is changed so that it can be.
        more: words that are put behind it.
        code: the exit code that is right here.
    """

    pattern: str
    how: str
    why: str
    more: str = ""
    code: int = 0


TABLE = [
    Row(r"^python launch\.py --(help|cfg)", "run", "as it is"),
    Row(r"launch\.py 'hydra.searchpath", "run", "composed by Hydra itself", "--cfg job"),
    Row(r"launch\.py", "overrides", "minutes or GPUs: small runs are in the tutorial's test"),
    Row(r"train_gpt\.py$", "torchrun", "needs 8 GPUs; tests/pack/test_script.py runs the script"),
    Row(r"^make ", "target", "installs, or runs what other tests run"),
    Row(r"^source \.venv/bin/activate$", "shell", "for the reader's own shell"),
    Row(r"^python (bench|-m )", "script", "minutes, GPUs or big data: a measurement"),
    Row(r"^pip install ", "extra", "the network"),
    Row(r"^pgolf data get ", "options", "downloads; tests/data has the client against a local hub"),
    Row(r"^pgolf import ", "options", "needs a published file; tests/upstream writes such files"),
    Row(r"^pgolf dashboard", "options", "serves until it is stopped; tests/report asks it"),
    Row(r"^pgolf track sync", "options", "sends to a server; tests/tracking has one"),
    Row(r"^pgolf cache prune", "options", "three ways in one line; tests/test_cache.py prunes"),
    Row(r"MODEL|RAW|SHARDS", "options", "needs a file of the reader's, shown by its options"),
    Row(r"eval\.stride=32$|^pgolf audit RUN$|^pgolf evaluate", "options",
        "scores everything again: tests/integration and tests/audit do"),
    Row(r"^pgolf audit ", "run", "it says 3, not eligible: documents of the small text are alike",
        code=3),
    Row(r"^pgolf pack|outputs/(mine|v15)", "options", "needs several runs; the tutorial packs"),
    Row(r"^pgolf data prepare ", "run", "the small text is divided, and fills its vocabulary",
        "--validation hash:0.05 scale.vocab_size=400"),
    Row(r"^pgolf data train-tokenizer ", "run",
        "a vocabulary that the small text can fill", "scale.vocab_size=400"),
    Row(r"^pgolf data (roundtrip|report) ", "run",
        "bytes: training a vocabulary of embedded text takes half a minute",
        "tokenizer=bytes scale.vocab_size=400"),
    Row(r"^pgolf data verify", "run", "the folder that data prepare has written"),
    Row(r"^pgolf ", "run", "on the tutorial's run"),
]  # fmt: skip


def row_of(command: Command) -> Row:
    for row in TABLE:
        if re.search(row.pattern, command.text):
            return row
    raise AssertionError(f"{command}: no row of TABLE says what to do with it")


def that_are(how: str, commands: list[Command]) -> list[Command]:
    return [command for command in commands if row_of(command).how == how]


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


def runnable() -> list[Command]:
    """Commands that are run but for the tutorial's, which has a test of its own; each text once."""
    pages = [c for c in COMMANDS if c.page.name != "tutorial.md"]
    return list({command.text: command for command in that_are("run", pages)}.values())


def filled_in(command: Command, names: dict[str, str]) -> list[str]:
    """The words with which a command is run here.

    Args:
        names: what stands for {run}, for {new}, a folder that is not there yet, and for {shards},
            those that the latest data prepare has written.
    """
    words, more = command.words, shlex.split(row_of(command).more)
    replaced = {word.partition("=")[0] for word in more if "=" in word}
    words = [word for word in words if word.partition("=")[0] not in replaced] + more
    verified = words[:3] == ["pgolf", "data", "verify"]
    filled = []
    for index, word in enumerate(words):
        if words[index - 1] == "-o":
            word = "{new}"
        elif verified and index == 3:
            word = "{shards}"
        word = FILLED_IN.get(word, word)
        filled.append(word.format(**names) if re.search(r"\{\w+\}", word) else word)
    return filled


def test_the_rest_runs(copy: Copy, finished: Path) -> None:
    (copy.folder / "new").mkdir()
    names, together = {"run": str(finished)}, []
    for number, command in enumerate(runnable()):
        names["new"] = f"new/{number}"
        words = filled_in(command, names)
        if command.text.startswith("pgolf data prepare"):
            names["shards"] = names["new"]
        if words[0] == "pgolf":
            together.append((command, words[1:]))
        else:
            copy.run(words, code=row_of(command).code)
    answers = copy.answers([words for _, words in together])
    for (command, words), (code, printed) in zip(together, answers, strict=True):
        assert code == row_of(command).code, f"{command}\npgolf {' '.join(words)}\n{printed}"
        assert printed, f"{command}: says nothing"


def test_inline_commands_that_would_run_are_spelt_right() -> None:
    for command in that_are("run", INLINE):
        if command.text.startswith("pgolf ") and "--help" not in command.text:
            check_options(command)
