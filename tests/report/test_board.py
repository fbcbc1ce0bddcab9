"""The comparison page: its data, its limits, and what a browser makes of it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import yaml

from pgolf.errors import UserError
from pgolf.provenance import config_hash
from pgolf.report import board
from pgolf.report.board import Board, write_board
from tests.report.browser import needs_chromium, show
from tests.report.fixtures import make_events, make_run

EVIL = "</script><img src=x onerror=alert(1)>"


def make_sweep(folder: Path) -> Path:
    """Three seeds of two configurations, and a failed job."""
    for epochs, method, shift in ((5, "prequant", 0.05), (21, "prequant", 0.0)):
        for index, seed in enumerate((1337, 42, 999)):
            run = make_run(
                folder / f"e{epochs}-s{seed}", seed=seed, epochs=epochs, shift=shift + index / 1000,
                overrides=(f"ttt.epochs={epochs}", f"seed={seed}", "scale=nano"),
            )  # fmt: skip
            (run / "config.yaml").write_text(
                f"seed: {seed}\nname: nano\nttt:\n  _target_: pgolf.ttt.{method}.X\n"
                f"  epochs: {epochs}\n"
            )
    (folder / "job").mkdir()
    (folder / "job" / "outcome.json").write_text(
        json.dumps({"overrides": ["seed=7"], "failed": f"stage ttt: no memory {EVIL}"})
    )
    return folder


def data_of(page: Path) -> dict:
    found = re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_page_holds_all_runs_their_groups_and_what_differs(tmp_path):
    page = write_board([make_sweep(tmp_path / "sweep")], tmp_path / "out.html")
    data = data_of(page)
    assert len(data["rows"]) == 6 and data["settings"] == ["ttt.epochs"]
    assert [(g["label"], g["values"]) for g in data["groups"].values()] == [
        ("ttt.epochs=21", ["21"]), ("ttt.epochs=5", ["5"]),
    ]  # fmt: skip
    row = next(row for row in data["rows"] if row["run"] == "e21-s42")
    assert row["bpb"]["final"] == pytest.approx(1.8477, abs=1e-6) and row["eligible"] is False
    assert row["epochs"] == 21 and row["method"] == "prequant" and row["state"] == "finished"
    assert row["bytes"]["total_bytes"] == 912_345 + 41_220
    assert sum(seconds for _, seconds, budget, _ in row["seconds"] if budget == "train") > 100
    assert row["loss"]["step"][-1] == 300 and row["loss"]["rate"] == 8192
    assert data["failed"] == [["seed=7", f"stage ttt: no memory {EVIL}"]]


def test_the_page_fetches_nothing_and_text_cannot_become_markup(tmp_path):
    text = write_board([make_sweep(tmp_path / "sweep")], tmp_path / "out.html").read_text()
    assert EVIL not in text and "<img" not in text and text.count("</script>") == 2
    assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org/2000/svg)", text)
    assert "connect-src" not in text and "default-src &#x27;none&#x27;" in text
    scripts = (Path(board.__file__).parent / "assets").glob("*.js")
    assert not [s for s in scripts if re.search(r"innerHTML|eval\(|insertAdj", s.read_text())]


def test_a_page_that_would_be_too_large_has_fewer_points(tmp_path, monkeypatch):
    sweep = make_sweep(tmp_path / "sweep")
    whole = write_board([sweep], tmp_path / "a.html")
    points = len(data_of(whole)["rows"][0]["loss"]["step"])
    limit = whole.stat().st_size - 2000
    monkeypatch.setattr(board, "MAX_PAGE_BYTES", limit)
    small = write_board([sweep], tmp_path / "b.html")
    steps = data_of(small)["rows"][0]["loss"]["step"]
    assert small.stat().st_size <= limit and board.MIN_POINTS <= len(steps) < points
    assert steps[0] == 1 and steps[-1] == 300


def test_reused_training_shows_the_curve_of_the_run_that_trained(tmp_path):
    for name in ("first", "second", "other"):
        make_run(tmp_path / name)
    for name in ("second", "other"):
        log = tmp_path / name / "events.jsonl"
        events = [e for e in make_events() if e["event"] != "train_step"]
        for event in events:
            if name == "other" and event.get("name") == "trained":
                event["nats"] += 1e-6
        log.write_text("".join(json.dumps(event) + "\n" for event in events))
    histories = Board([tmp_path])
    histories.refresh()
    rows = {row["run"]: row for row in histories.rows()}
    assert rows["second"]["lender"] == rows["first"]["id"]
    assert rows["first"]["lender"] is None and rows["other"]["lender"] is None


def test_a_folder_without_runs_is_named(tmp_path):
    with pytest.raises(UserError, match="no run in"):
        write_board([tmp_path], tmp_path / "out.html")
    with pytest.raises(UserError, match="is no folder"):
        write_board([tmp_path / "missing"], tmp_path / "out.html")


def test_runs_that_are_broken_or_not_finished_are_on_the_page(tmp_path):
    for name in ("broken", "young"):
        make_run(tmp_path / name)
    (tmp_path / "broken" / "result.json").write_text("{")
    (tmp_path / "young" / "result.json").unlink()
    rows = {r["run"]: r for r in data_of(write_board([tmp_path], tmp_path / "out.html"))["rows"]}
    assert rows["broken"]["state"] == "broken" and "Expecting" in rows["broken"]["broken"]
    assert rows["young"]["state"] == "stopped"  # its events are old
    assert rows["young"]["bpb"]["final"] == pytest.approx(1.8467)


@needs_chromium
def test_a_browser_draws_all_and_does_not_complain(tmp_path):
    page = write_board([make_sweep(tmp_path / "sweep")], tmp_path / "out.html")
    shown = show(page.as_uri(), tmp_path / "profile")
    assert shown.complaints == []
    assert "6 of 6 runs, 2 configurations" in shown.html and "1 failed job" in shown.html
    titles = re.findall(r"<h2>(.*?)</h2>", shown.html)
    assert titles == [
        "Bits per byte along the stages", "Training loss",
        "Bits per byte against epochs of test-time training", "Bits per byte against bytes",
        "Where the seconds went", "Settings that differ",
    ]  # fmt: skip
    # Stages, loss, two of epochs, bytes; mean and std of three seeds.
    assert shown.html.count('<svg class="chart"') == 5
    assert shown.html.count('class="range"') >= 2 and "1.8477" in shown.html
    assert "0.0010" in shown.html and "<img" not in shown.html


@needs_chromium
def test_the_address_keeps_sorting_filter_choice_and_theme(tmp_path):
    page = write_board([make_sweep(tmp_path / "sweep")], tmp_path / "out.html")
    view = "#by=run&query=seed%3D42&sort=bpb&down=1&axis=tokens&theme=dark"
    shown = show(page.as_uri() + view, tmp_path / "profile")
    assert shown.complaints == [] and 'data-theme="dark"' in shown.html
    table = re.search(r"<tbody>(.*?)</tbody>", shown.html, re.DOTALL)
    assert table is not None
    shown_order = re.findall(r"</span>(ttt[^<]*)</button>", table[1])
    assert shown_order == ["ttt.epochs=5, seed 42", "ttt.epochs=21, seed 42"]
    assert 'aria-sort="descending"' in shown.html and "Training loss against tokens" in shown.html
    chosen = next(iter(data_of(page)["groups"]))
    shown = show(f"{page.as_uri()}#chosen={chosen}", tmp_path / "profile")
    assert "The charts show what is chosen" in shown.html and shown.html.count('class="chip"') == 1


@needs_chromium
@pytest.mark.parametrize("width", [1280, 500])
def test_a_screenshot_is_not_blank(tmp_path, width):
    page = write_board([make_sweep(tmp_path / "sweep")], tmp_path / "out.html")
    picture = tmp_path / "page.png"
    assert show(page.as_uri(), tmp_path / "profile", width, picture).complaints == []
    assert picture.stat().st_size > 50_000  # a blank page of this size has less than 10,000


@needs_chromium
def test_what_is_drawn_again_keeps_focus_cursor_and_what_is_open(tmp_path):
    """As on a live page; a seed that ran twice, of which one was stopped, counts once."""
    sweep = make_sweep(tmp_path / "sweep")
    again = make_run(sweep / "a-stopped", seed=42, epochs=21)
    (again / "config.yaml").write_text((sweep / "e21-s42" / "config.yaml").read_text())
    (again / "overrides.txt").write_text("ttt.epochs=21\nscale=nano\n")
    (again / "result.json").unlink()
    config = yaml.safe_load((again / "config.yaml").read_text())
    for run in sweep.glob("e21-*"):
        made = {**json.loads((run / "result.json").read_text()), "config_hash": config_hash(config)}
        (run / "result.json").write_text(json.dumps(made))
    page = write_board([sweep], tmp_path / "out.html")
    frame = tmp_path / "frame.html"
    frame.write_text(f"""<!doctype html><link rel="icon" href="data:,">
<iframe src="{page.name}" width="1200" height="900"></iframe><pre id="seen"></pre><script>
const wait = () => new Promise(done => setTimeout(done, 300));
onload = async () => {{
  await wait();
  const inside = document.querySelector('iframe').contentDocument, seen = [];
  const label = e => e && (e.getAttribute('aria-label') || e.textContent);
  seen.push(inside.querySelector('tbody tr').textContent);
  inside.querySelector('details summary').click();
  await wait();
  const chart = inside.querySelector('svg.chart[tabindex]');
  chart.focus();
  chart.dispatchEvent(new KeyboardEvent('keydown', {{ key: 'End' }}));
  const query = inside.getElementById('query');
  query.value = 'scale=nano'; query.dispatchEvent(new Event('input'));
  await wait();
  seen.push(inside.querySelector('header [role=status]').textContent);
  seen.push(inside.querySelector('details').open);
  seen.push(label(inside.activeElement).slice(0, 13));
  seen.push(inside.querySelector('.readout').textContent.slice(0, 10));
  document.getElementById('seen').textContent = seen.join('|');
}};
</script>""")
    shown = show(frame.as_uri(), tmp_path / "profile", extra=("--allow-file-access-from-files",))
    assert shown.complaints == []
    seen = re.search(r'id="seen">(.*?)</pre>', shown.html)
    assert seen is not None
    row, count, is_open, focus, readout = seen[1].split("|")
    # Three seeds, mean and deviation as without the stopped run.
    assert "3 seeds" in row and "1.8477" in row and "0.0010" in row and "stopped" in row
    assert count == "7 of 7 runs, 2 configurations"
    assert is_open == "true" and focus == "Training loss" and readout == "steps 300:"


@needs_chromium
def test_scores_of_different_texts_are_said_not_to_compare(tmp_path):
    sweep = make_sweep(tmp_path / "sweep")
    path = sweep / "e5-s42" / "result.json"
    result = json.loads(path.read_text())
    score = result["bpb"]["final"]

    def shown_with(size: int, within: int) -> str:
        nats = score["bpb"] * size * math.log(2.0)
        result["bpb"]["final"] = {**score, "bytes": size, "nats": nats}
        result["provenance"]["imported"] = {"bytes_within": within}
        path.write_text(json.dumps(result))
        page = write_board([sweep], tmp_path / "out.html")
        return show(page.as_uri(), tmp_path / "profile").html

    # What a published log's loss and BPB imply is not exact.
    assert not re.search(r"Scored on different texts \(\d", shown_with(score["bytes"] + 2, 2))
    shown = shown_with(1000, 2)
    assert re.search(r"Scored on different texts \(1,000; 1,204,311 bytes\)", shown)


@needs_chromium
def test_keys_change_what_is_shown(tmp_path):
    page = write_board([make_sweep(tmp_path / "sweep")], tmp_path / "out.html")
    # The policy forbids scripts that are not the page's own, so the keys come from around it.
    frame = tmp_path / "frame.html"
    frame.write_text(f"""<!doctype html><link rel="icon" href="data:,">
<iframe src="{page.name}" width="1200" height="900"></iframe><pre id="seen"></pre><script>
onload = () => setTimeout(() => {{
  const inside = document.querySelector('iframe').contentDocument, seen = [];
  const chart = inside.querySelectorAll('svg.chart[tabindex]')[0];
  chart.dispatchEvent(new KeyboardEvent('keydown', {{ key: 'Home' }}));
  seen.push(inside.querySelector('.readout').textContent);
  const sort = inside.querySelector('[data-focus=sort-bpb]');
  sort.focus(); sort.click();
  seen.push(inside.activeElement.dataset.focus);
  seen.push(inside.querySelector('[aria-sort=descending]').textContent);
  inside.querySelector('[data-focus^=open-]').click();
  seen.push(inside.querySelectorAll('tr.detail li').length);
  const query = inside.getElementById('query');
  query.value = 'epochs=5'; query.dispatchEvent(new Event('input'));
  seen.push(inside.querySelector('header [role=status]').textContent);
  document.getElementById('seen').textContent = seen.join('|');
}}, 300);
</script>""")
    shown = show(frame.as_uri(), tmp_path / "profile", extra=("--allow-file-access-from-files",))
    assert shown.complaints == []
    seen = re.search(r'id="seen">(.*?)</pre>', shown.html)
    assert seen is not None
    readout, focus, column, details, count = seen[1].split("|")
    assert readout.startswith("steps 0:") and focus == "sort-bpb" and "final BPB" in column
    assert int(details) >= 4 and count == "3 of 6 runs, 1 configuration"
