"""The comparison page served live: it asks for news, and gets the runs that changed.

The server has three kinds of answers: the page, the news, and a few files of runs that it found
itself. No path is ever made from what a browser sends. A request whose Host header is the name of
another site is refused, so that no site can reach the server through its visitor's browser by a
name that resolves to this machine (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import json
import os
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pgolf.errors import UserError
from pgolf.report.board import Board, content_policy, render, script
from pgolf.report.rows import Row, run_id

EVERY_MS = 2000
# However many browsers ask, files are looked at once in this time.
FRESH_S = 0.5
# What a run's own page links to, and as what it is sent.
FILES = {
    "report.html": "text/html",
    **dict.fromkeys(("log.txt", "config.yaml", "overrides.txt"), "text/plain"),
    **dict.fromkeys(("profile_recurrence_off.txt", "profile_recurrence_on.txt"), "text/plain"),
    **dict.fromkeys(("result.json", "audit.json"), "application/json"),
    "events.jsonl": "text/plain",
}
QUIET_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"


class LiveBoard:
    """A board with versions, so that a page is sent only what it does not have. Thread-safe.

    Args:
        places: folders of runs.
    """

    def __init__(self, places: Iterable[Path]) -> None:
        self._board = Board(places)
        self._lock = threading.Lock()
        self._boot, self._version = os.urandom(4).hex(), 0  # a page may outlive its server
        self._texts: dict[str, tuple[str, int]] = {}
        self._rows: list[Row] = []
        self._shared: Row = {}
        self._looked = 0.0

    def page(self) -> str:
        """The page with everything that is known now."""
        with self._lock:
            self._look()
            live = {"every_ms": EVERY_MS, "version": self._token()}
            return render({**self._shared, "rows": self._rows, "live": live})

    def news(self, since: str) -> dict[str, Any]:
        """Runs that changed after `since`, an earlier answer's version, and the ids of all."""
        with self._lock:
            self._look()
            boot, _, number = since.partition("-")
            known = int(number) if boot == self._boot and number.isdecimal() else -1
            rows = [row for row in self._rows if self._texts[row["id"]][1] > known]
            return {
                "version": self._token(),
                "ids": [row["id"] for row in self._rows],
                "rows": rows,
                "shared": self._shared if known != self._version else {},
            }

    def file(self, run: str, name: str) -> Path | None:
        """A file of a run that was found, by the run's id; None where there is no such."""
        if name not in FILES:
            return None
        with self._lock:
            folders = [f for f in self._board.histories if run_id(f) == run]
        path = folders[0] / name if folders else None
        # A link could lead anywhere: only what lies in the folder itself is sent.
        inside = path is not None and path.is_file() and path.resolve().parent == path.parent
        return path if inside else None

    def _token(self) -> str:
        return f"{self._boot}-{self._version}"

    def _look(self) -> None:
        if time.time() - self._looked < FRESH_S:
            return
        with suppress(UserError):  # a folder is gone: what was read of its runs stays
            self._board.refresh()
        rows, shared = self._board.rows(), self._board.shared(self._board.title())
        for row in rows:
            row["report"] = f"run/{row['id']}/report.html" if row["report"] else None
        texts = {row["id"]: json.dumps(row) for row in rows}
        same = shared == self._shared and texts.keys() == self._texts.keys()
        if not same or any(self._texts[key][0] != text for key, text in texts.items()):
            self._version += 1
        before = self._texts
        self._texts = {
            key: before[key] if before.get(key, ("",))[0] == text else (text, self._version)
            for key, text in texts.items()
        }
        self._rows, self._shared, self._looked = rows, shared, time.time()


def make_server(places: Iterable[Path], host: str, port: int) -> ThreadingHTTPServer:
    """A server that is bound, not yet serving; port 0 takes a free one.

    Raises:
        UserError: the address cannot be used.
    """
    live = LiveBoard(places)

    class Handler(_Handler):
        board, own_name = live, host

    try:
        server = _Server((host, port), Handler)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"cannot serve on {host}:{port} ({error}): choose another --port, or --host"
        ) from error
    return server


def is_own_name(header: str, own_name: str) -> bool:
    """Whether a Host header names this server: an address, localhost, or the name of --host."""
    name = urlsplit(f"//{header}").hostname or ""
    if name in ("localhost", own_name.lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away in the middle of an answer is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    board: LiveBoard
    own_name: str
    server_version = "pgolf"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        """Answer one request."""
        try:
            known = is_own_name(self.headers.get("Host", ""), self.own_name)
        except ValueError:  # no host at all, like "[::"
            known = False
        if not known:
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"this name is not served here\n")
            return
        address = urlsplit(self.path)
        parts = address.path.strip("/").split("/")
        if parts == [""]:
            policy = content_policy(script(), live=True)
            self._send(HTTPStatus.OK, "text/html", self.board.page().encode(), policy)
        elif parts == ["data"]:
            since = parse_qs(address.query).get("since", [""])[0]
            content = json.dumps(self.board.news(since), ensure_ascii=False).encode()
            self._send(HTTPStatus.OK, "application/json", content)
        elif len(parts) == 3 and parts[0] == "run":
            self._send_file(self.board.file(parts[1], parts[2]))
        else:
            self._send_file(None)

    def do_HEAD(self) -> None:
        """The same, without content."""
        self.do_GET()

    def _send_file(self, path: Path | None) -> None:
        try:
            content = None if path is None else path.read_bytes()
        except OSError:
            content = None
        if path is None or content is None:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"not found\n")
        else:
            self._send(HTTPStatus.OK, FILES[path.name], content)

    def _send(
        self, status: HTTPStatus, kind: str, content: bytes, policy: str = QUIET_POLICY
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a page that asks every two seconds would fill the terminal."""
