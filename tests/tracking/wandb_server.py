"""A W&B-compatible server of this machine's own (openwandb), and what it has been sent."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

# Made by the server at its first start.
KEY = "local" + "0" * 40


class WandbServer:
    """`openwandb serve` on the loopback.

    Args:
        folder: its data.
        port: 0 takes a free one.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder, self.port = folder, port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "openwandb", "serve"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        environment = {**os.environ, "OPENWANDB_DATA_DIR": str(self.folder)}
        with open(self.folder / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        end = time.monotonic() + 90
        while time.monotonic() < end:
            assert self._process.poll() is None, (self.folder / "server.log").read_text()
            try:
                urllib.request.urlopen(self.url, timeout=2)
                return
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError((self.folder / "server.log").read_text())

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of its database."""
        with sqlite3.connect(f"file:{self.folder / 'openwandb.db'}?mode=ro", uri=True) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(query, values)]

    def run(self, run_id: str) -> dict[str, Any]:
        """A run with its configuration and summary as values."""
        (row,) = self.rows("select * from runs where run_id = ?", run_id)
        return {
            **row,
            "config": json.loads(row["config_json"]),
            "summary": json.loads(row["summary_json"]),
        }

    def curve(self, run_id: str, key: str) -> list[float]:
        """A metric's values in their order."""
        found = self.rows(
            "select value from metrics where run_id = ? and key = ? order by step", run_id, key
        )
        return [row["value"] for row in found]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
