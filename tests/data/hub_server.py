"""A hub of our own for tests: as much of the Hugging Face hub's HTTP as a download uses.

Repositories are dictionaries of paths and contents. Faults are queued by path, one a request for
the file's bytes: "drop" hangs up after half, "stall" sends half and waits, "wrong" serves another
byte, "empty" serves none, "whole" ignores a range, "429" and "503" refuse. Those of `API` are of
questions about the repository: "drop" hangs up without an answer, "503" refuses.
"""

from __future__ import annotations

import hashlib
import json
import threading
import urllib.parse
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REVISION = "0123456789abcdef0123456789abcdef01234567"
PAGE = 3  # entries of a listing's page
API = "api"


class HubServer:
    """Serves from when it is made until `close`.

    Attributes:
        files: contents by repository and path; those that end in .model lie in git, others in LFS.
        faults: what goes wrong with the next requests for a path's bytes.
        requests: (method, path, Range header) of every request, in order.
    """

    def __init__(self, files: dict[str, dict[str, bytes]]) -> None:
        self.files = files
        self.faults: dict[str, list[str]] = defaultdict(list)
        self.requests: list[tuple[str, str, str | None]] = []
        self.retry_after: str | None = None
        self.released = threading.Event()  # lets stalled answers end
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def ranges(self, name: str) -> list[str | None]:
        """The Range header of each request for a file's bytes."""
        return [r for method, path, r in self.requests
                if method == "GET" and "/cdn/" in path and path.endswith("/" + name)]  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, *details: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        address = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(address.path)
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        if path.startswith("/api/") and self.hub.faults[API]:
            fault = self.hub.faults[API].pop(0)
            if fault == "drop":
                self.close_connection = True
                return None
            return self.send_refusal(int(fault))
        for repository, files in self.hub.files.items():
            if path.startswith(f"/api/datasets/{repository}/tree/{REVISION}"):
                return self.send_listing(files, address.query)
            if path == f"/api/datasets/{repository}":
                return self.send_json({"id": repository, "sha": REVISION, "private": False})
            name = path.removeprefix(f"/datasets/{repository}/resolve/{REVISION}/")
            if name in files:
                return self.send_redirect(repository, name, files[name])
            name = path.removeprefix(f"/cdn/{repository}/")
            if name in files:
                return self.send_bytes(name, files[name])
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_json(self, value: Any, **headers: str) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        for key, text in headers.items():
            self.send_header(key, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def send_listing(self, files: dict[str, bytes], query: str) -> None:
        entries: list[dict[str, Any]] = [
            {"type": "directory", "path": folder, "oid": "0" * 40}
            for folder in sorted({path.rpartition("/")[0] for path in files} - {""})
        ]
        entries += [entry(path, content) for path, content in files.items()]
        start = int(urllib.parse.parse_qs(query).get("cursor", ["0"])[0])
        headers = {}
        if start + PAGE < len(entries):
            following = f"{self.hub.url}{self.path.partition('?')[0]}?recursive=True"
            headers["Link"] = f'<{following}&cursor={start + PAGE}>; rel="next"'
        self.send_json(entries[start : start + PAGE], **headers)

    def send_redirect(self, repository: str, name: str, content: bytes) -> None:
        self.send_response(302)
        self.send_header("Location", f"/cdn/{urllib.parse.quote(f'{repository}/{name}')}")
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("X-Linked-Etag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_bytes(self, name: str, content: bytes) -> None:
        queued = self.hub.faults[name.rpartition("/")[2]]
        fault = queued.pop(0) if queued else ""
        if fault.isdigit():
            return self.send_refusal(int(fault))
        if fault == "wrong":
            content = bytes([content[0] ^ 1]) + content[1:]
        if fault == "empty":
            content = b""
        start = 0
        if (asked := self.headers.get("Range")) and fault not in ("whole", "empty"):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        body = content[start:]
        self.send_header("Content-Length", str(len(body)))
        if start:
            where = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", where)
        self.end_headers()
        if fault in ("drop", "stall"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if fault == "stall":
                self.hub.released.wait(60)
            self.close_connection = True
            return
        self.wfile.write(body)

    def send_refusal(self, status: int) -> None:
        self.send_response(status)
        if self.hub.retry_after is not None:
            self.send_header("Retry-After", self.hub.retry_after)
        self.send_header("Content-Length", "0")
        self.end_headers()


def entry(path: str, content: bytes) -> dict[str, Any]:
    """What the hub lists of a file."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    facts: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": blob}
    if not path.endswith(".model"):
        sha256 = hashlib.sha256(content).hexdigest()
        facts["oid"] = "f" * 40  # that of a pointer
        facts["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
    return facts
