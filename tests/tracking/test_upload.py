"""What `pgolf track sync` takes for sent and for failed, by what `wandb sync` prints."""

from __future__ import annotations

import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import NoReturn

import pytest

from pgolf.cli import main
from pgolf.tracking import wandb_upload as upload
from pgolf.tracking.wandb_account import Account


def printing(monkeypatch: pytest.MonkeyPatch, text: str, code: int = 0) -> None:
    done = subprocess.CompletedProcess([], code, stdout=text)
    monkeypatch.setattr(upload.subprocess, "run", lambda *args, **settings: done)


def test_the_word_error_in_a_name_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = Account("http://127.0.0.1:1", "key")
    printing(monkeypatch, "wandb: [p/1] View run error-1\nwandb: [p/1] Finished syncing /error/1\n")
    assert upload.send(tmp_path, account, 1.0) is None and upload.is_sent(tmp_path, account.url)
    for line in ("wandb: ERROR permission denied", "Error: no such run", "wandb: [p/1] ERROR full"):
        printing(monkeypatch, f"{line}\nwandb: Find logs at: /tmp/x\n")
        assert upload.send(tmp_path, account, 1.0) == line
    printing(monkeypatch, "wandb: gone\n", code=1)
    assert upload.send(tmp_path, account, 1.0) == "wandb: gone"


def test_each_server_that_has_a_run_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printing(monkeypatch, "wandb: Finished syncing\n")
    for port in (1, 2):
        assert not upload.is_sent(tmp_path, f"http://127.0.0.1:{port}")
        upload.send(tmp_path, Account(f"http://127.0.0.1:{port}", "key"), 1.0)
    assert all(upload.is_sent(tmp_path, f"http://127.0.0.1:{port}") for port in (1, 2))


def test_a_wait_without_an_end_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seconds in ("0", "-1", "nan"):
        assert main(["track", "sync", str(tmp_path), "--timeout", seconds]) == 2
    assert "above 0" in capsys.readouterr().err


class Viewer(BaseHTTPRequestHandler):
    """A server that knows every key."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"data": {"viewer": {"id": "1"}}}')

    def log_message(self, *args: object) -> None:
        pass


def test_a_server_that_goes_away_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "c"):
        offline = tmp_path / name / "wandb" / "offline-run-1"
        offline.mkdir(parents=True)
        (offline / "run.wandb").touch()
        (tmp_path / name / "result.json").touch()
    server = HTTPServer(("127.0.0.1", 0), Viewer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    tried = []

    def lose_the_server(command: list[str], timeout: float, **settings: object) -> NoReturn:
        tried.append(command[-1])
        server.shutdown()
        server.server_close()
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(upload.subprocess, "run", lose_the_server)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("WANDB_API_KEY", "key")
    assert main(["track", "sync", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert tried == [str(tmp_path / "a" / "wandb" / "offline-run-1")]
    assert "sending 1 of 3" in said.err and "no end within 300 s" in said.out
    assert said.out.count("not tried") == 2 and "3 failed" in said.out
