"""The final score by document on a run's page and on the comparison page; text stays text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgolf.documents import documents_of
from pgolf.report.board import write_board
from pgolf.report.history import read_run
from pgolf.report.page import write_report
from pgolf.report.rows import run_row
from pgolf.tokenizer.bytes import BytesTokenizer
from tests.report.browser import needs_chromium, show
from tests.report.fixtures import make_run
from tests.report.test_board import data_of
from tests.report.test_page import read

EVIL = "</script></pre></details><img src=x onerror=alert(1)> & "
TEXT = f"{EVIL}\u05e9\u05dc\u05d5\u05dd {'word ' * 90}"


def add_documents(folder: Path, count: int = 60, shift: float = 0.0) -> dict[str, Any]:
    """Append the event of documents with evil text to a made-up run; returns it."""
    text = TEXT.encode()
    random = np.random.default_rng(count)
    ids = np.array([256, *text] * count, np.uint16)
    sizes = np.full(count, len(text), np.float64)
    sizes[0] = 10
    nats = np.log(2.0) * sizes * (1.85 + shift + 0.2 * random.standard_normal(count))
    starts = np.arange(count) * (len(text) + 1.0)
    event = documents_of(
        np.stack([starts, nats, sizes + 1, sizes]), ids, BytesTokenizer(vocab_size=257)
    )
    with (folder / "events.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps({"event": "documents", "stage": "final", **event}) + "\n")
    return event


def test_the_page_shows_the_bins_and_documents_with_their_text(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    assert "Bits per byte by document" not in " ".join(read(write_report(folder)).text)
    event = add_documents(folder)
    path = write_report(folder)
    page, source = read(path), path.read_text(encoding="utf-8")
    text = " ".join(page.text)
    assert "59 documents of at least 200 bytes" in text and "1 shorter one is left out" in text
    # A bar for each bin that has documents, in both sizes; the score of all bytes is marked.
    assert source.count('class="bin"') == 2 * sum(count > 0 for count in event["counts"])
    assert source.count('class="mark"') == 2 and "all bytes: 1.8467" in text
    for row in (*event["worst"], *event["median"], *event["best"]):
        assert f"<b>{row['bpb']:.4f}</b>" in source
        assert f"number {row['document'] + 1:,}" in text
    assert source.count('<details class="document">') == 14
    assert page.text.count(event["worst"][0]["text"] + "...") == 14  # what a reader sees
    assert not {"script", "img"} & page.tags and "&lt;/script&gt;&lt;/pre&gt;" in source
    assert path.stat().st_size < 150_000


def test_a_run_with_short_documents_only_says_so(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    short = {"event": "documents", "stage": "final", "min_bytes": 200, "count": 0, "short": 3}
    with (folder / "events.jsonl").open("a") as log:
        log.write(json.dumps(short) + "\n")
    text = " ".join(read(write_report(folder)).text)
    assert "0 documents of at least 200 bytes" in text and "3 shorter ones are" in text
    assert run_row(read_run(folder), 10)["documents"] is None


def test_the_comparison_has_numbers_and_no_text(tmp_path: Path) -> None:
    event = add_documents(make_run(tmp_path / "run"))
    page = write_board([tmp_path], tmp_path / "out.html")
    (row,) = data_of(page)["rows"]
    found = row["documents"]
    assert found["span"] == [event["edges"][0], event["edges"][-1]]
    assert found["median"] == pytest.approx(event["quartiles"][1], abs=1e-5)
    # The area below the line is the share of the documents that lie in the bins.
    width = (found["span"][1] - found["span"][0]) / len(found["density"])
    assert sum(found["density"]) * width / 0.1 == pytest.approx(
        100 * sum(event["counts"]) / event["count"], abs=0.1
    )
    assert "word word" not in page.read_text(encoding="utf-8")
    assert len(json.dumps(found)) < 400  # of 500 runs, a tenth of a page


@needs_chromium
def test_a_browser_draws_both_pages_and_runs_no_text(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 2))]
    for run, shift in zip(runs, (0.0, 0.1), strict=True):
        add_documents(run, shift=shift)
        write_report(run)
    page = write_board([tmp_path], tmp_path / "out.html")
    shown = show(f"{page.as_uri()}#by=run", tmp_path / "profile")
    assert shown.complaints == [] and "Bits per byte by document" in shown.html
    card = re.search(r'aria-label="Documents by bits per byte.*?</section>', shown.html, re.DOTALL)
    assert card is not None and card[0].count('class="line"') == 2
    assert re.findall(r'href="([ab]/report\.html#documents)"', card[0]) == [
        "a/report.html#documents", "b/report.html#documents",
    ]  # fmt: skip
    # A page of 400 pixels, in a frame: nothing is cut off, and the keyboard reaches a document.
    frame = tmp_path / "frame.html"
    frame.write_text("""<!doctype html><link rel="icon" href="data:,">
<iframe src="a/report.html#documents" width="400" height="900"></iframe><pre id="seen"></pre>
<script>
onload = () => {
  const inside = document.querySelector('iframe').contentDocument;
  const lines = [...inside.querySelectorAll('#documents summary')], seen = [];
  lines[0].focus();
  seen.push(inside.activeElement === lines[0]);
  lines.forEach(line => line.click());
  seen.push(inside.querySelectorAll('#documents details[open]').length);
  seen.push(inside.documentElement.scrollWidth);
  seen.push(inside.querySelectorAll('img, script').length);
  document.getElementById('seen').textContent = seen.join('|');
};
</script>""")
    shown = show(frame.as_uri(), tmp_path / "profile", extra=("--allow-file-access-from-files",))
    assert shown.complaints == []
    seen = re.search(r'id="seen">(.*?)</pre>', shown.html)
    assert seen is not None
    focused, opened, width, alien = seen[1].split("|")
    assert (focused, opened, alien) == ("true", "14", "0") and int(width) <= 400
