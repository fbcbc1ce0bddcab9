"""The tutorial from its first command to its last, on a small text and model.

And on its first run, all other commands of the documentation that can run here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.docs.conftest import Copy
from tests.docs.pages import ROOT, blocks, commands_of
from tests.docs.table import filled_in, row_of, runnable

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "tutorial.md"


def shown_after() -> dict[str, list[str]]:
    """Lines that the page shows as the output of each command that has some."""
    commands = commands_of(PAGE)
    shown: dict[str, list[str]] = {}
    for language, lines in blocks(PAGE.read_text(encoding="utf-8")):
        if language == "text":
            last = max((c for c in commands if c.line < lines[0][0]), key=lambda c: c.line)
            shown[last.text] = [text for _, text in lines]
    return shown


def first_words(line: str) -> str:
    """What a line is called: its beginning up to a wider gap, a number or a path."""
    return re.split(r"\s{2,}|\d| \S+/", line.strip())[0].strip()


@pytest.mark.parametrize("command", shown_after())
def test_what_is_shown_is_what_is_printed(command: str, tutorial: dict[str, str]) -> None:
    """Numbers are those of a larger run; the lines have to be there, by their names."""
    # A note is about the text, which is another one here.
    shown = re.sub(r"\n note .*(\n {10,}\S.*)*", "", "\n".join(shown_after()[command]))
    named = [first_words(line) for line in shown.splitlines()]
    named = [name for name in named if re.match(r"[a-z_]{4}", name)]
    assert named, f"{command}: nothing to compare"
    missing = [name for name in named if name not in tutorial[command]]
    assert not missing, f"{command}: {missing} is not in\n{tutorial[command]}"


def test_the_first_run_is_eligible(tutorial: dict[str, str]) -> None:
    first = commands_of(PAGE)[0].text
    assert re.search(r"bits per byte +eligible", tutorial[first]), tutorial[first]


def test_the_sweep_made_every_cell(copy: Copy, tutorial: dict[str, str]) -> None:
    results = [json.loads(p.read_text()) for p in (copy.folder / "trial").rglob("result.json")]
    cells = {(result["name"], result["seed"]) for result in results}
    assert cells == {(f"{model}-nano", seed) for model in ("baseline", "gated") for seed in (1, 2)}
    assert len(results) == 4


def test_the_submission_is_complete(copy: Copy, tutorial: dict[str, str]) -> None:
    folder = copy.folder / "submission"
    names = {path.name for path in folder.iterdir()}
    assert {"train_gpt.py", "README.md", "submission.json", "requirements.txt"} <= names
    assert {"train_seed1.log", "train_seed2.log"} <= names
    assert "class GatedMLP" in (folder / "train_gpt.py").read_text(encoding="utf-8")


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
