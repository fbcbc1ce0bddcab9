"""A published records folder, read as text within limits: nothing in it is run or followed."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import stat
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgolf.audit.records.log import Log, parse_log
from pgolf.audit.records.unpack import MAX_LAYERS, Layer, unpack

MAX_TEXT_BYTES = 8 << 20
# Of a longer log, its beginning and its end are read.
MAX_LOG_BYTES = 32 << 20
MAX_FILES, MAX_LOGS = 2000, 64
MAIN = "train_gpt.py"
SUBMISSION = "submission.json"
LOG_NAMES = re.compile(r".*\.log|(?:train|log|seed)[^/]*\.txt")


@dataclass(frozen=True)
class Code:
    """A Python file: as it is, and all that is packed inside."""

    name: str
    size: int
    layers: list[Layer]
    problems: list[str]

    @property
    def text(self) -> str:
        """The innermost text: what runs in the end."""
        return self.layers[-1].text


@dataclass
class Records:
    """A folder of README.md, submission.json, train_gpt.py and logs; what is absent is empty.

    Args:
        code: `train_gpt.py` first, then the files of this folder that it imports.
        other_code: text of Python files that the script does not import, e.g. data preparation.
        faults: what was not read, or would have done harm, in words.
    """

    folder: Path
    readme: str = ""
    submission: dict[str, Any] = field(default_factory=dict)
    logs: list[Log] = field(default_factory=list)
    code: list[Code] = field(default_factory=list)
    other_code: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def layers(self) -> list[tuple[str, Layer]]:
        """All source texts, each with the file that it stands in."""
        return [(code.name, layer) for code in self.code for layer in code.layers]

    def claim(self, *keys: str) -> Any:
        """The first of some keys of submission.json that is there."""
        return next((self.submission[key] for key in keys if key in self.submission), None)

    @property
    def seed_results(self) -> dict[int, dict[str, Any]]:
        """Claimed results by seed."""
        rows = self.submission.get("seed_results")
        if not isinstance(rows, dict):
            return {}
        found = {}
        for seed, row in rows.items():
            if digits := re.search(r"\d+", str(seed)):
                found[int(digits[0])] = row if isinstance(row, dict) else {"val_bpb": row}
        return found


def is_records_folder(folder: Path) -> bool:
    """A folder with submission.json or a seed's training log, and no run of pgolf."""
    if not folder.is_dir() or (folder / "result.json").exists():
        return False
    return (folder / SUBMISSION).exists() or any(folder.glob("train_seed*.log"))


def read_records(folder: Path) -> Records:
    """Read what is known of a folder; whatever is odd goes to `faults` and stops nothing."""
    records = Records(folder)
    files = dict(_files(records))
    records.readme = next(
        (_text(records, p) or "" for n, p in files.items() if n.lower() == "readme.md"), ""
    )
    if SUBMISSION in files:
        records.submission = _json(records, _text(records, files[SUBMISSION]))
    logs = [(name, path) for name, path in files.items() if LOG_NAMES.fullmatch(name)]
    if len(logs) > MAX_LOGS:
        records.faults.append(f"{len(logs)} logs, of which {MAX_LOGS} are read")
    for name, path in logs[:MAX_LOGS]:
        if (text := _ends(records, path)) is not None:
            records.logs.append(parse_log(text, name))
    records.code = _code(records, files)
    used = {code.name for code in records.code}
    for name, path in list(files.items()):
        if name.endswith(".py") and name not in used and len(records.other_code) < MAX_LOGS:
            records.other_code[name] = _text(records, path) or ""
    records.faults += _escapes(records.submission)
    return records


def _files(records: Records) -> Iterator[tuple[str, Path]]:
    """Regular files of the folder itself, by name; links are named and not followed."""
    with os.scandir(records.folder) as entries:
        for count, entry in enumerate(sorted(entries, key=lambda e: e.name)):
            if count == MAX_FILES:
                records.faults.append(f"more than {MAX_FILES:,} entries: the others are not read")
                return
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISREG(mode):
                yield entry.name, Path(entry.path)
            elif not stat.S_ISDIR(mode):
                kind = "a link" if stat.S_ISLNK(mode) else "no regular file"
                records.faults.append(f"{entry.name} is {kind}: not read")


def _text(records: Records, path: Path) -> str | None:
    size = path.stat().st_size
    if size > MAX_TEXT_BYTES:
        records.faults.append(f"{path.name} has {size:,} bytes, more than any source: not read")
        return None
    data = path.read_bytes()
    return data.decode(_encoding(data), "replace").replace("\r\n", "\n")


def _encoding(data: bytes) -> str:
    """What a source says of itself, else UTF-8."""
    try:
        return tokenize.detect_encoding(io.BytesIO(data).readline)[0]
    except SyntaxError:
        return "utf-8"


def _ends(records: Records, path: Path) -> str | None:
    """A log's text; of a very long one the two ends."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        content = file.read(min(size, MAX_LOG_BYTES))
        if size > MAX_LOG_BYTES:
            records.faults.append(f"{path.name} has {size:,} bytes: only its ends are read")
            content = content[: MAX_LOG_BYTES // 2] + b"\n"
            file.seek(size - MAX_LOG_BYTES // 2)
            content += file.read(MAX_LOG_BYTES // 2)
    return content.decode("utf-8", "replace")


def _json(records: Records, text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        records.faults.append(f"{SUBMISSION} is not JSON ({str(error)[:80]})")
        return {}
    if not isinstance(content, dict):
        records.faults.append(f"{SUBMISSION} is no object")
        return {}
    return content


def _code(records: Records, files: dict[str, Path]) -> list[Code]:
    """The script and, recursively, what it imports from this folder."""
    found: dict[str, Code] = {}
    names = [MAIN] if MAIN in files else sorted(n for n in files if n.endswith(".py"))
    while names:
        name = names.pop(0)
        if name in found or name not in files or len(found) > MAX_LAYERS * 8:
            continue
        text = _text(records, files[name])
        if text is None:
            continue
        layers, problems = unpack(text)
        found[name] = Code(name, files[name].stat().st_size, layers, problems)
        names += [f"{module}.py" for layer in layers for module in _imports(layer.tree)]
    return list(found.values())


def _imports(tree: ast.Module | None) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module.partition(".")[0])
    return modules


def _escapes(value: Any) -> list[str]:
    """Names in submission.json that point outside the folder; none is opened."""
    waiting, found = [value], []
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            waiting += item
        elif isinstance(item, str) and re.search(
            r"(?:^|[\\/])\.\.[\\/]|^/(?:etc|root|home)/", item
        ):
            found.append(f"{SUBMISSION} names {item[:80]!r}, outside the folder: not opened")
    return found
