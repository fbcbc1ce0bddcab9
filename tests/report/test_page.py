"""The page: self-contained, escaped, complete, and readable from a partial run folder."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from pgolf.errors import UserError
from pgolf.report.page import write_report
from pgolf.report.rundata import curve, load_run
from pgolf.report.sections import headline
from pgolf.result import TRACK_ADAPTIVE
from tests.report.fixtures import REASON, make_result, make_run

VOID = {"meta", "input", "br"}


class Reader(HTMLParser):
    """Checks that tags nest, and collects text and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.addresses += [value for key, value in attrs if key in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def read(path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


def test_page_shows_every_figure_of_the_result(tmp_path):
    page = read(write_report(make_run(tmp_path / "run")))
    text, result = " ".join(page.text), make_result()
    for score in result["bpb"].values():
        assert f"{score['bpb']:.4f}" in text and f"{score['nats']:,.1f}" in text
    assert f"{result['artifact']['total_bytes']:,}" in text and "16,000,000" in text
    assert "not eligible" in text and REASON in text
    assert f"{result['control']['bpb']:.4f}" in text and "not from the artifact" in text
    for seconds in result["seconds"].values():
        assert f"{seconds:.1f}" in text
    assert result["config_hash"] in text and "log.txt" in text


def test_page_needs_no_network_and_no_script(tmp_path):
    path = write_report(make_run(tmp_path / "run"))
    page = read(path)
    assert not {"script", "link", "img", "iframe"} & page.tags
    assert {"log.txt", "result.json"} <= set(page.addresses)
    assert all("/" not in address for address in page.addresses)
    assert not re.search(r"@import|url\(|https?://", path.read_text())
    assert path.stat().st_size < 100_000


def test_markup_in_names_configuration_and_reasons_is_escaped(tmp_path):
    folder = make_run(tmp_path / "run")
    evil = "<img src=x onerror=alert(1)>"
    result = json.loads((folder / "result.json").read_text())
    result["name"] = result["run_id"] = evil
    result["overrides"] = [evil]
    result["eligibility"]["reasons"] = [evil]
    result["eligibility"]["notes"] = [evil]
    result["provenance"] = {
        "time": evil,
        "git": {"commit": evil},
        evil: [evil],
        "cpu": {evil: evil},
    }
    result["config_hash"] = evil
    result["budgets"][0]["name"] = evil
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "config.yaml").write_text(evil)
    path = write_report(folder)
    assert "img" not in read(path).tags
    assert "&lt;img src=x" in path.read_text()


def test_run_folder_with_a_result_only_is_enough(tmp_path):
    folder = make_run(tmp_path / "run", eligible=True, reused=("train",))
    (folder / "events.jsonl").unlink()
    (folder / "config.yaml").unlink()
    text = " ".join(read(write_report(folder)).text)
    assert "Training was reused" in text and "(reused)" in text


def test_folder_without_result_or_with_a_broken_one_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no result\.json"):
        write_report(tmp_path)
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        write_report(tmp_path)


def test_a_method_that_adapts_while_scoring_shows_its_gain(tmp_path):
    folder = make_run(tmp_path / "run", eligible=True)
    rows = [
        {"event": "ttt_curve", "stage": "final", "tokens": n, "bpb": 1.9, "unadapted_bpb": 1.95}
        for n in (1000, 2000)
    ]
    log = folder / "events.jsonl"
    before = log.read_text()
    log.write_text(before + "".join(json.dumps(row) + "\n" for row in rows))
    run = load_run(folder)
    assert run.ttt_gain == [(1000.0, pytest.approx(0.05)), (2000.0, pytest.approx(0.05))]
    assert "Gain of adapting while scoring" in " ".join(read(write_report(folder)).text)
    for row in rows:
        del row["unadapted_bpb"]
    log.write_text(before + "".join(json.dumps(row) + "\n" for row in rows))
    text = " ".join(read(write_report(folder)).text)
    assert "Adapting while scoring" in text and "Gain of" not in text


def test_the_control_is_named_by_its_track(tmp_path):
    result = make_result()
    result["eligibility"]["track"] = TRACK_ADAPTIVE
    assert "without adapting" in headline(result)
    assert "averaged weights before" in headline(make_result())


def test_curve_takes_the_last_of_a_repeated_step_and_drops_what_is_no_number():
    rows = [(1, 5.0), (2, 4.0), (3, 3.9), (2, 4.1), (4, float("nan")), (3, 3.5), (5, None)]
    events = [{"event": "train_step", "step": x, "train/loss": y} for x, y in rows]
    events.append({"event": "other", "step": 9, "train/loss": 1.0})
    assert curve(events, "train_step", "step", "train/loss") == [(1, 5.0), (2, 4.1), (3, 3.5)]


def test_bytes_by_tensor_are_shown_where_the_run_tells_them(tmp_path):
    folder = make_run(tmp_path / "run")
    assert "Bytes by tensor" not in " ".join(read(write_report(folder)).text)
    rows = [
        {"name": "<b>.weight", "kind": "8 states", "shape": [512, 2048], "bits": 6,
         "raw_bytes": 787_456, "entropy_bytes": 437_000, "encoded_bytes": 431_234,
         "share_of_limit": 0.02695},
        {"name": "gain", "kind": "fp16", "shape": [8], "bits": 16, "raw_bytes": 16,
         "entropy_bytes": None, "encoded_bytes": 9, "share_of_limit": 0.0},
    ]  # fmt: skip
    with (folder / "events.jsonl").open("a") as log:
        log.write(json.dumps({"event": "tensors", "stage": "pack", "rows": rows}) + "\n")
    text = " ".join(read(write_report(folder)).text)
    numbers = ("437,000", "431,234", "2.695%", "431,243")
    for words in ("Bytes by tensor", "512 x 2048", "8 states", *numbers):
        assert words in text
    assert "of limit loss" not in text


def test_losses_by_tensor_are_shown_where_they_were_measured(tmp_path):
    folder = make_run(tmp_path / "run")
    row = {"kind": "codes", "shape": [2, 3], "bits": 6, "raw_bytes": 5, "entropy_bytes": 4,
           "encoded_bytes": 4, "share_of_limit": 0.0}  # fmt: skip
    rows = [{"name": name, "loss": loss, **row}
            for name, loss in (("a", 0.000125), ("b", None), ("c", 0.0005))]  # fmt: skip
    with (folder / "events.jsonl").open("a") as log:
        log.write(json.dumps({"event": "tensors", "stage": "pack", "rows": rows}) + "\n")
    text = " ".join(read(write_report(folder)).text)
    for words in ("of limit loss", "0.000125", "0.000500", "0.000625"):
        assert text.count(words) == 1
