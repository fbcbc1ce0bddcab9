"""What the tests do with each command of the documentation.

A command that no row takes is an error. The first row whose pattern is found counts.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from tests.docs.pages import PAGES, Command, commands_of, inline_commands_of

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
