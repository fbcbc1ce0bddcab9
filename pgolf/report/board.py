"""The page that compares runs: one file that needs no network, or the same served live."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pgolf.errors import UserError
from pgolf.files import atomic_writer, explain_os_error
from pgolf.report.differences import differing, flattened, labels
from pgolf.report.folders import Failure, find_runs
from pgolf.report.history import History
from pgolf.report.rows import Row, run_row, state_of
from pgolf.report.style import palette
from pgolf.result import ARTIFACT_LIMIT_BYTES

MAX_PAGE_BYTES = 1_900_000
MAX_POINTS, MIN_POINTS, ALL_POINTS = 400, 24, 48_000
STYLES = ("board.css",)
SCRIPTS = ("dom.js", "stats.js", "plot.js", "charts.js", "table.js", "main.js")


class Board:
    """Runs below some places, as they are now.

    Args:
        places: run folders, sweeps, folders of runs.
    """

    def __init__(self, places: Iterable[Path]) -> None:
        self.places = list(places)
        self.histories: dict[Path, History] = {}
        self.failed: list[Failure] = []
        # Runs of one model have the same tensors: their names are sent once.
        self.tensors: list[list[str]] = []
        self._made: dict[Path, tuple[object, Row]] = {}

    def refresh(self) -> bool:
        """Look for new runs and read what is new in all; True where something changed."""
        found, failed = find_runs(self.places)
        changed = failed != self.failed or found != list(self.histories)
        self.failed = failed
        known = self.histories
        self.histories = {folder: known.get(folder) or History(folder) for folder in found}
        for history in self.histories.values():
            changed |= history.refresh()
        return changed

    def rows(self, points: int | None = None) -> list[Row]:
        """Each run; `points` limits a loss curve, by default so that all fit a page."""
        if points is None:
            share = ALL_POINTS // max(1, len(self.histories))
            points = min(MAX_POINTS, max(MIN_POINTS, share))
        rows = [self._row(history, points) for history in self.histories.values()]
        _lend_curves(list(self.histories.values()), rows)
        return rows

    def _row(self, history: History, points: int) -> Row:
        """A copy of the row made before, unless something in it is another now."""
        report = (history.folder / "report.html").is_file()
        key = (history.version, points, state_of(history), report)
        before = self._made.get(history.folder)
        if before is None or before[0] != key:
            row = run_row(history, points)
            row["tensors"] = self._short(row["tensors"])
            before = self._made[history.folder] = (key, row)
        return dict(before[1])

    def _short(self, tensors: list[Any]) -> Row | None:
        """Bytes of each tensor, and which list of names they belong to."""
        if not tensors:
            return None
        names = [name for name, _ in tensors]
        if names not in self.tensors:
            self.tensors.append(names)
        return {"of": self.tensors.index(names), "bytes": [size for _, size in tensors]}

    def shared(self, title: str) -> Row:
        """What belongs to no single run: configurations, their differences, failed jobs."""
        groups: dict[str, History] = {}
        for history in self.histories.values():
            groups.setdefault(history.group, history)
        flat = {key: flattened(history.config) for key, history in groups.items()}
        names = differing(list(flat.values()))
        typed = [_overrides(history) for history in groups.values()]
        titles = labels([_name(h) for h in groups.values()], typed, list(groups))
        return {
            "title": title,
            "limit": ARTIFACT_LIMIT_BYTES,
            "failed": self.failed,
            "tensors": self.tensors,
            "settings": names,
            "groups": {
                key: {
                    "label": label,
                    "values": [flat[key].get(name) for name in names],
                    # What the box filters by: each run has a seed of its own.
                    "typed": " ".join(word for word in words if not word.startswith("seed=")),
                }
                for key, label, words in zip(groups, titles, typed, strict=True)
            },
        }

    def title(self) -> str:
        """The place's name, or how many runs are compared."""
        if len(self.places) == 1:
            return self.places[0].resolve().name
        return f"{len(self.histories)} runs"


def _name(history: History) -> str:
    return str(history.config.get("name") or history.folder.parent.name)


def _overrides(history: History) -> list[str]:
    """As typed; a run that is not finished has them in a file."""
    if history.result is not None:
        return [str(word) for word in history.result["overrides"]]
    try:
        return (history.folder / "overrides.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _lend_curves(histories: list[History], rows: list[Row]) -> None:
    """A run that reused its training shows the curve of the run that trained, by `lender`.

    The same weights have the same score to the last digit, other ones do not.
    """
    trained = {
        (row["seed"], history.trained_nats): row["id"]
        for history, row in zip(histories, rows, strict=True)
        if row["loss"] is not None and history.trained_nats is not None
    }
    for history, row in zip(histories, rows, strict=True):
        row["lender"] = None
        if row["loss"] is None and history.trained_nats is not None:
            row["lender"] = trained.get((row["seed"], history.trained_nats))


def write_board(places: Iterable[Path], output: Path, title: str | None = None) -> Path:
    """Write the comparison of all runs below `places` as one HTML file.

    Raises:
        UserError: there is no run, or the file cannot be written.
    """
    board = Board(places)
    board.refresh()
    if not board.histories and not board.failed:
        names = ", ".join(map(str, board.places))
        raise UserError(f"no run in {names}: run folders have an events.jsonl or a result.json")
    page = _fitted(board, title or board.title(), output.resolve().parent)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, output) from error
    with atomic_writer(output, "w") as file:
        file.write(page)
    return output


def _fitted(board: Board, title: str, place: Path) -> str:
    """The page, its curves thinned until it is small enough."""
    points: int | None = None
    while True:
        rows = board.rows(points)
        for row, folder in zip(rows, board.histories, strict=True):
            row["report"] = _link(folder, place) if row["report"] else None
        page = render({**board.shared(title), "rows": rows, "live": None})
        longest = max((len(row["loss"]["step"]) for row in rows if row["loss"]), default=0)
        if len(page.encode()) <= MAX_PAGE_BYTES or longest <= MIN_POINTS:
            return page
        points = max(MIN_POINTS, longest * 2 // 3)


def _link(folder: Path, place: Path) -> str:
    """Relative, so that page and runs can be moved together; a name may have a # or a colon."""
    return quote(Path(os.path.relpath(folder / "report.html", place)).as_posix())


def render(data: dict[str, Any]) -> str:
    """The whole page as text.

    Args:
        data: `Board.shared()`, with `rows` and `live`: how often to ask for news, or None.
    """
    style = palette() + _assets(STYLES)
    code = script()
    policy = escape(content_policy(code, live=data["live"] is not None))
    # "<" would end the block early or begin a comment; JSON may write it as \u003c.
    content = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<link rel="icon" href="data:,"><title>{escape(str(data["title"]))}</title>'
        f'<style>{style}</style></head><body><main id="page">'
        "<noscript>This page draws with JavaScript, which is switched off.</noscript></main>"
        f'<script type="application/json" id="data">{content}</script>'
        f"<script>{code}</script></body></html>\n"
    )


def script() -> str:
    """The page's script, in one function of its own."""
    return f"(() => {{\n'use strict';\n{_assets(SCRIPTS)}\n}})();\n"


def content_policy(code: str, live: bool) -> str:
    """Nothing but this page's own script and style; a served page may ask its own server."""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    connect = "connect-src 'self'; " if live else ""
    return (
        f"default-src 'none'; {connect}img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _assets(names: Iterable[str]) -> str:
    folder = files("pgolf.report") / "assets"
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)
