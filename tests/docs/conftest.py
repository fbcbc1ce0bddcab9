"""A copy of the repository with the documentation's own options, to run its commands in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT, commands_of, examples
from tests.integration.command import PGOLF, write_text

COPIED = ("pgolf", "conf", "sweeps", "hydra_plugins", "bench", "tests", "launch.py", "Makefile")
# A run in seconds, on a text that is made here; a key that is named twice counts as the last.
SMALL = ("debug=cpu", "data=local", "data.path=texts.jsonl", "tokenizer=bytes", "audit=none",
         "tracking=none", "scale.ttt_chunk_tokens=256")  # fmt: skip
SWEPT = ("scale.num_steps=12", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
TIMEOUT_S = 300


class Copy:
    """A folder to work in as a reader would in the repository.

    Args:
        folder: where the copy is made; the cache and all outputs lie there as well.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "results")
                shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
            else:
                shutil.copy(ROOT / name, folder / name)
        for path, text in examples().items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            assert not (folder / path).exists(), f"{path}: the example would overwrite a file"
            (folder / path).write_text(text, encoding="utf-8")
        write_text(folder / "texts.jsonl", num_documents=260)

    def run(self, words: Iterable[str], stdin: str = "", code: int = 0) -> str:
        """What a command prints; it has to end with this exit code."""
        first, *rest = self.expanded(words)
        command = {"python": [sys.executable], "pgolf": PGOLF}.get(first, [first]) + rest
        paths = [str(self.folder), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "PGOLF_CACHE": str(self.folder / "cache"),
            "PGOLF_DATA": str(self.folder / "data"),
        }
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == code, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def expanded(self, words: Iterable[str]) -> Iterator[str]:
        """The words, a pattern of folders as the shell would hand it on."""
        for word in words:
            if word.endswith("*/"):
                found = sorted(path for path in self.folder.glob(word) if path.is_dir())
                assert found, f"{word}: there is no such folder"
                yield from (str(path.relative_to(self.folder)) for path in found)
            else:
                yield word

    def launch(self, words: Iterable[str], *more: str) -> str:
        """Run launch.py's words with those of a small run behind them."""
        flags = [word for word in words if word.startswith("-")]
        named = {word.partition("=")[0]: word for word in (*words, *SMALL, *more)}
        overrides = [word for word in named.values() if not word.startswith("-")]
        return self.run(["python", "launch.py", *flags, *overrides])

    def faults(self, commands: list[list[str]]) -> list[str]:
        """What is wrong with the overrides of each command of launch.py."""
        faults: list[str] = self._ask("composing.py", commands)
        return faults

    def answers(self, commands: list[list[str]]) -> list[tuple[int, str]]:
        """Exit code and output of each subcommand of pgolf."""
        answers: list[tuple[int, str]] = self._ask("running.py", commands)
        return answers

    def _ask(self, script: str, commands: list[list[str]]) -> Any:
        path = str(self.folder / "tests" / "docs" / script)
        return json.loads(self.run(["python", path], json.dumps(commands)))


@pytest.fixture(scope="session")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return Copy(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="session")
def tutorial(copy: Copy) -> dict[str, str]:
    """What each command of the tutorial prints, small and with two seeds, in its order."""
    printed: dict[str, str] = {}
    for command in commands_of(ROOT / "docs" / "tutorial.md"):
        words = command.words
        if words[:2] != ["python", "launch.py"] or "--cfg" in words:
            printed[command.text] = copy.run(words)
        else:
            printed[command.text] = copy.launch(
                [word.replace("seed=1,2,3", "seed=1,2") for word in words[2:]],
                *(SWEPT if "-m" in words else []),
            )
    return printed


@pytest.fixture(scope="session")
def finished(copy: Copy, tutorial: dict[str, str]) -> Path:
    """The folder of the tutorial's first run, from the copy."""
    return next((copy.folder / "outputs").glob("*/*/result.json")).parent.relative_to(copy.folder)
