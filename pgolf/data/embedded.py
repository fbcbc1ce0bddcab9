"""`data=embedded`: English text that is on every machine that runs pgolf, without a download.

Docstrings of Python's standard library, torch, numpy, sympy and networkx, and Python's help
topics, read from the sources; none of these packages is imported.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import os
import platform
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from pgolf.data.corpus import (
    Corpus,
    Unique,
    choose_validation,
    corpus_writer,
    document_key,
    finish_corpus,
)
from pgolf.data.manifest import Manifest
from pgolf.data.pool import ordered_map
from pgolf.data.tokenize import tokenize_documents
from pgolf.errors import UserError
from pgolf.hardware import usable_cpus
from pgolf.progress import track
from pgolf.protocols import Tokenizer

VERSION = 1  # raised whenever the same sources would give other documents
PACKAGES = ("torch", "numpy", "sympy", "networkx")
# Not on every machine, or without prose.
SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
TOPICS = ("pydoc_data", "topics.py")
FILES_PER_ITEM, FILES_PER_PROCESS = 32, 300
RUN_WORDS = 8
WORDS = re.compile(r"[^\W\d_]+")
RULE = "by order of the documents' hashes: validation until {val_bytes} bytes, the rest training"


class EmbeddedText:
    """Docstrings and help topics, one document each.

    Removed are short ones, equal ones and nearly equal ones, half of whose runs of eight words are
    in earlier ones (apart from case, digits and punctuation); the order is that of the files.
    Both splits are in order of the documents' hashes, so that any part is a fair sample.

    Args:
        val_bytes: validation takes documents until they have this many UTF-8 bytes.
        min_chars: characters that a document has at least.
    """

    def __init__(self, *, val_bytes: int = 160_000, min_chars: int = 200) -> None:
        self.val_bytes, self.min_chars = val_bytes, min_chars

    def check(self) -> None:
        """Raises UserError when a setting is out of range or there are no sources to read."""
        for key in ("val_bytes", "min_chars"):
            if getattr(self, key) < 1:
                raise UserError(f"data.{key}={getattr(self, key)}: expected 1 or more")
        if not any(root.is_dir() for root in source_roots(PACKAGES)):
            raise UserError(
                "data=embedded finds no Python sources (is Python in a zip file?): use data=local "
                "data.path=..."
            )

    def cache_key(self) -> dict[str, Any]:
        return {
            "source": "embedded",
            "version": VERSION,
            "val_bytes": self.val_bytes,
            "min_chars": self.min_chars,
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in PACKAGES},
        }

    def documents(self, folder: Path, show: bool) -> Corpus:
        """Read the sources, remove duplicates, divide."""
        return collect(source_roots(PACKAGES), folder, show, self.val_bytes, self.min_chars)

    def tokenize(self, documents: Path, tokenizer: Tokenizer, folder: Path, show: bool) -> Manifest:
        return tokenize_documents(documents, tokenizer, folder, show)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def source_roots(packages: Iterable[str]) -> list[Path]:
    """Folders of the standard library and of the packages that are installed, not imported."""
    roots = [Path(sysconfig.get_path("stdlib"))]
    for name in packages:
        spec = PathFinder.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            roots.append(Path(next(iter(spec.submodule_search_locations))))
    return roots


def collect(roots: list[Path], folder: Path, show: bool, val_bytes: int, min_chars: int) -> Corpus:
    """Write the documents of some folders of Python sources; see `EmbeddedText`.

    Raises:
        UserError: they have fewer than two documents.
    """
    files = [file for root in roots for file in source_files(root)]
    processes = min(usable_cpus(), 1 + len(files) // FILES_PER_PROCESS)
    unique = Unique()
    texts = [text for _, text in unique(extract(files, min_chars, processes, show))]
    kept = drop_near_duplicates(texts)
    sizes = {document_key(text): len(text.encode("utf-8")) for text in kept}
    chosen = choose_validation(sizes, val_bytes)
    with corpus_writer(folder) as writer:
        for text in sorted(kept, key=document_key):
            writer.add("validation" if document_key(text) in chosen else "training", text)
    return finish_corpus(
        folder,
        writer,
        split_rule=RULE.format(val_bytes=val_bytes),
        duplicates_removed=unique.num_removed + len(texts) - len(kept),
        training_documents_dropped=0,
        official_validation=False,
        remedy="install sympy and networkx, or use data=local data.path=...",
    )


def source_files(root: Path) -> list[Path]:
    """Python files below a folder, sorted by their path in it."""
    files = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in SKIPPED]
        files += [Path(folder, name) for name in names if name.endswith(".py")]
    return sorted(files, key=lambda file: file.relative_to(root).parts)


def extract(files: list[Path], min_chars: int, processes: int, show: bool) -> Iterator[str]:
    """Documents of the files, in their order whatever the number of processes."""
    items = [files[i : i + FILES_PER_ITEM] for i in range(0, len(files), FILES_PER_ITEM)]
    work = functools.partial(documents_of_files, min_chars)
    with track("documents", len(files), "file", show) as bar:
        for item, texts in zip(items, ordered_map(work, items, processes), strict=True):
            yield from texts
            bar.advance(len(item))


def documents_of_files(min_chars: int, files: list[Path]) -> list[str]:
    """Docstrings of some files, stripped, that are long enough and valid as UTF-8."""
    return [
        text
        for file in files
        for text in _documents(file)
        if len(text) >= min_chars and _valid(text)
    ]


def _documents(file: Path) -> Iterator[str]:
    try:
        source = file.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's sources
            tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return  # templates and samples that are meant to be wrong
    if file.parts[-2:] == TOPICS:
        yield from _topics(tree)
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield text.strip()


def _topics(tree: ast.Module) -> Iterator[str]:
    """Texts of the one dictionary that the file assigns."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for value in node.value.values:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value.value.strip()


def _valid(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def drop_near_duplicates(texts: Iterable[str]) -> list[str]:
    """Texts of whose runs of eight words less than half are in the ones kept before.

    Words are runs of letters, whatever their case; digits and punctuation do not count.
    """
    kept: list[str] = []
    seen: set[int] = set()
    for text in texts:
        words = WORDS.findall(text.lower())
        count = max(1, len(words) - RUN_WORDS + 1)
        runs = {hash(tuple(words[i : i + RUN_WORDS])) for i in range(count)}
        if 2 * len(runs & seen) < len(runs):
            kept.append(text)
            seen |= runs
    return kept
