"""Small packages made of strings, put into one file and run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

from pgolf.bundle.emit import Bundle, bundle
from pgolf.bundle.reach import Reach, Sources


def sources(modules: dict[str, str], replaced: dict[str, str] | None = None) -> Sources:
    """A package p whose modules are p.KEY; "" is p itself."""
    texts = {"p": b"", **{f"p.{name}": dedent(t).encode() for name, t in modules.items()}}
    return Sources("p", texts.get, replaced or {})


def bundled(
    modules: dict[str, str], *roots: str, replaced: dict[str, str] | None = None, **options: Any
) -> Bundle:
    names = [f"p.{root}" for root in roots]
    return bundle(Reach(sources(modules, replaced), names, **options), names)


def value(made: Bundle, root: str) -> Any:
    """A root of the file, which is run in this process."""
    space: dict[str, Any] = {"__name__": "bundled"}
    exec(compile(made.text, "bundled", "exec"), space)
    return space[made.names[f"p.{root}"]]


def output(text: str, folder: Path) -> str:
    """What a program prints, run as a file of its own."""
    path = folder / "program.py"
    path.write_text(text)
    return output_of_file(path)


def output_of_file(path: Path) -> str:
    """What the program in a file prints."""
    done = subprocess.run([sys.executable, "-I", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
