"""The live page: only what changed is sent, and only to who may have it."""

from __future__ import annotations

import http.client
import json
import os
import re
import threading
import time

import pytest

from pgolf.errors import UserError
from pgolf.report import serve
from pgolf.report.rows import run_id
from pgolf.report.serve import LiveBoard, is_own_name, make_server
from tests.report.browser import needs_chromium, show
from tests.report.fixtures import make_run


@pytest.fixture
def server(tmp_path):
    make_run(tmp_path / "runs" / "a")
    server = make_server([tmp_path / "runs"], "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)


def ask(server, path: str, host: str | None = None, method: str = "GET"):
    """Status, headers and content of an answer; the path goes out as it is."""
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=20)
    connection.request(method, path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def test_page_news_and_files_of_runs(server, tmp_path):
    status, headers, content = ask(server, "/")
    assert status == 200 and b'"live":{"every_ms":2000' in content
    policy = headers["Content-Security-Policy"]
    # What the page says of itself must not forbid what its header allows, nor the other way.
    inside = re.search(rb'Security-Policy" content="([^"]*)"', content)
    assert inside is not None and policy == inside[1].decode().replace("&#x27;", "'")
    assert "connect-src 'self'" in policy
    run = run_id(tmp_path / "runs" / "a")
    assert ask(server, f"/run/{run}/log.txt")[2] == b"2026-11-24 08:15:02  started\n"
    status, headers, _ = ask(server, f"/run/{run}/result.json")
    assert status == 200 and headers["X-Content-Type-Options"] == "nosniff"
    assert ask(server, f"/run/{run}/report.html")[0] == 404  # there is none
    status, headers, content = ask(server, "/", method="HEAD")
    assert status == 200 and content == b"" and int(headers["Content-Length"]) > 10_000


@pytest.mark.parametrize("name", [
    "../a/log.txt", "..%2f..%2fsecret", "secret", "%2e%2e/secret", "config.yaml/../secret",
    "/etc/passwd", "profile", "",
])  # fmt: skip
def test_nothing_but_listed_files_is_sent(server, tmp_path, name):
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "runs" / "a" / "secret").write_text("secret")
    for path in (f"/run/{run_id(tmp_path / 'runs' / 'a')}/{name}", f"/run/../{name}", f"//{name}"):
        status, _, content = ask(server, path)
        assert (status == 404 or path == "//") and b"secret" not in content


def test_a_link_out_of_the_run_is_not_followed(server, tmp_path):
    (tmp_path / "secret").write_text("secret")
    os.symlink(tmp_path / "secret", tmp_path / "runs" / "a" / "audit.json")
    assert ask(server, f"/run/{run_id(tmp_path / 'runs' / 'a')}/audit.json")[0] == 404


def test_names_of_other_sites_are_refused(server):
    port = server.server_address[1]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "[::1]"):
        assert ask(server, "/data", host)[0] == 200
    for host in (f"evil.example:{port}", "localhost.evil.example", "127.0.0.1.nip.io", "", "[::"):
        status, _, content = ask(server, "/data", host)
        assert status == 403 and b"rows" not in content
    assert is_own_name("lab:80", "lab") and not is_own_name("lab:80", "127.0.0.1")


def test_only_runs_that_changed_are_sent(tmp_path, monkeypatch):
    monkeypatch.setattr(serve, "FRESH_S", 0.0)
    for name in ("a", "b"):
        make_run(tmp_path / name)
    board = LiveBoard([tmp_path])
    first = board.news("")
    assert len(first["rows"]) == len(first["ids"]) == 2 and first["shared"]["groups"]
    again = board.news(first["version"])
    assert (again["rows"], again["version"]) == ([], first["version"])
    event = {"event": "train_step", "step": 305, "elapsed_s": 80.0, "tokens": 305 * 8192}
    with (tmp_path / "b" / "events.jsonl").open("a") as log:
        log.write(json.dumps({**event, "train/loss": 2.5}) + "\n")
    then = board.news(first["version"])
    assert [row["run"] for row in then["rows"]] == ["b"]
    assert then["rows"][0]["loss"]["step"][-1] == 305
    make_run(tmp_path / "c")
    news = board.news(then["version"])
    assert [row["run"] for row in news["rows"]] == ["c"] and len(news["ids"]) == 3
    # A page of a server that was started again knows nothing that this one counts.
    assert len(board.news("00000000-9")["rows"]) == 3
    assert len(board.news("nonsense")["rows"]) == 3


def test_a_port_that_is_taken_is_named(server, tmp_path):
    port = server.server_address[1]
    with pytest.raises(UserError, match=f"cannot serve on 127.0.0.1:{port}"):
        make_server([tmp_path], "127.0.0.1", port)
    with pytest.raises(UserError, match="choose another --port"):
        make_server([tmp_path], "127.0.0.1", 99_999)


@needs_chromium
def test_the_open_page_shows_a_run_that_appears(server, tmp_path, monkeypatch):
    monkeypatch.setattr(serve, "FRESH_S", 0.0)
    monkeypatch.setattr(serve, "EVERY_MS", 200)
    page = serve.LiveBoard.page

    def page_then_run(board: LiveBoard) -> str:
        text = page(board)
        make_run(tmp_path / "runs" / "b", seed=42)
        (tmp_path / "runs" / "b" / "result.json").unlink()
        log = tmp_path / "runs" / "b" / "events.jsonl"
        event = {"time": time.time(), "event": "stage", "stage": "train", "status": "start"}
        log.write_text(json.dumps(event) + "\n")
        return text

    monkeypatch.setattr(serve.LiveBoard, "page", page_then_run)
    address = f"http://127.0.0.1:{server.server_address[1]}/"
    shown = show(address, tmp_path / "profile")
    assert shown.complaints == []
    assert "2 of 2 runs" in shown.html and "live, 1 running" in shown.html
    assert "running: training" in shown.html


def test_a_folder_that_goes_away_takes_no_page_with_it(server, tmp_path, monkeypatch):
    monkeypatch.setattr(serve, "FRESH_S", 0.0)
    assert ask(server, "/")[0] == 200
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    status, _, content = ask(server, "/data")
    assert status == 200 and len(json.loads(content)["rows"]) == 1
