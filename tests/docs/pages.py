"""What the documentation tells its reader to type, and the files that it tells them to write."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = ("bash", "console", "sh", "shell")
# How a command begins in an indented block, which may as well be a drawing or an excerpt.
BEGINS = re.compile(r"([A-Z_]+=\S+ )*(python|pgolf|torchrun|make|pip|source) ")
EXAMPLE = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One command of a page, without what a reader leaves out or fills in."""

    page: Path
    line: int
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}: {self.text}"


def commands_of(page: Path) -> list[Command]:
    """All commands of a page's shell blocks and of its indented blocks of commands."""
    found: list[Command] = []
    for language, lines in blocks(page.read_text(encoding="utf-8")):
        if language in SHELL or (
            language is None and any(BEGINS.match(f"{text} ") for _, text in lines)
        ):
            for number, text in lines:
                found += [Command(page, number, part) for part in parts(text, language is None)]
    return found


def blocks(text: str) -> Iterator[tuple[str | None, list[tuple[int, str]]]]:
    """Language and numbered lines of each block of code; an indented one has no language."""
    lines: list[tuple[int, str]] = []
    fence, indented = None, False
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.startswith("```"):
            if fence is not None:
                yield fence, lines
            fence = None if fence is not None else line[3:].split(" ")[0]
            lines = []
        elif fence is not None:
            lines.append((number, line))
        elif line.startswith("    ") and (indented or not lines):
            lines.append((number, line[4:]))
            indented = True
        else:
            if indented:
                yield None, lines
            lines, indented = [], False


def parts(line: str, described: bool) -> list[str]:
    """The commands of a line, without comments, brackets and dots.

    Args:
        described: two blanks end the command, and a description follows.
    """
    line = re.sub(r"\s#\s.*", "", line.removeprefix("$ ")).strip()
    if described:
        line = line.split("  ")[0]
    if "searchpath" not in line and not line.startswith("pip"):
        line = re.sub(r"[\[\]]|(?<!\S)\|(?!\S)|\.\.\.", "", line)
    return [part.strip() for part in line.split("; ") if part.strip() and part[0] != "#"]


def examples() -> dict[str, str]:
    """Text of every file that a page has in full, by its path in the repository."""
    found: dict[str, str] = {}
    for page in PAGES:
        for path, text in EXAMPLE.findall(page.read_text(encoding="utf-8")):
            assert path not in found, f"{page}: {path} is on two pages"
            found[path] = text
    return found


def inline_commands_of(page: Path) -> list[Command]:
    """Commands that stand in a sentence."""
    found: list[Command] = []
    fenced = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fenced ^= line.startswith("```")
        if not fenced and not line.startswith("    "):
            for text in re.findall(r"`((?:pgolf|python|make|torchrun|pip) [^`]+)`", line):
                found += [Command(page, number, part) for part in parts(text, described=False)]
    return found
