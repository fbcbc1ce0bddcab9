"""A clean run passes; each known fault, put into a copy of it, is refused with its witness."""

from __future__ import annotations

import json
import shutil
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from pgolf.audit.finding import ELIGIBLE, FAIL, NOT_ELIGIBLE, PASS, UNDECIDED
from pgolf.audit.pieces import read_pieces
from pgolf.audit.recount import Recount
from pgolf.auditing.runs import open_subject
from pgolf.errors import UserError
from tests.audit.artifact_mutations import code_left_out, swapped
from tests.audit.made import Made, training_of
from tests.audit.text_mutations import one_document

pytestmark = pytest.mark.slow


def refused(made: Made, probe: str, mode: str = "quick") -> Any:
    """The one failure, of this probe; the whole audit says so, too."""
    verdict = made.audit(mode) if mode == "quick" else None
    if verdict is not None:
        assert verdict.verdict == NOT_ELIGIBLE
        assert [f.probe for f in verdict.failures][:1] == [probe], verdict.failures
        return verdict.failures[0]
    finding = made.finding(probe, mode)
    assert finding.verdict == FAIL, finding
    return finding


def test_a_clean_run_is_eligible_and_says_so_everywhere(finished: Made) -> None:
    result = finished.result()
    assert result["audit"]["verdict"] == ELIGIBLE and result["eligibility"]["eligible"]
    audit = json.loads((finished.run / "audit.json").read_text())
    assert audit["schema"] == 1 and audit["mode"] == "quick"
    assert {f["verdict"] for f in audit["findings"]} == {PASS}
    assert "<h2>Audit</h2>" in (finished.run / "report.html").read_text()
    assert "ROUNDTRIP" in (finished.run / "audit.html").read_text()


def test_a_copy_of_it_is_eligible(made: Made) -> None:
    verdict = made.audit()
    assert verdict.verdict == ELIGIBLE, verdict.failures


@pytest.mark.parametrize(("what", "probe"), [("filesystem", "DISJOINT"), ("network", "RELOAD")])
def test_what_held_the_evaluation_is_said(made: Made, what: str, probe: str) -> None:
    assert not any("kept it" in words for words in made.finding(probe).not_checked)
    result = made.result()
    result["provenance"]["sandbox"][what] = "not enforced"
    made.save(result)
    assert any("kept it" in words for words in made.finding(probe).not_checked)


def test_a_full_audit_of_it_passes(made: Made) -> None:
    final = made.result()["bpb"]["final"]
    verdict = made.audit("full", rescore=lambda: final)
    assert verdict.verdict == ELIGIBLE, verdict.findings
    assert {"DOCS", "RELOAD"} <= {f.probe for f in verdict.findings}
    docs = next(f for f in verdict.findings if f.probe == "DOCS")
    assert docs.witness["crosses"]  # packed documents, as configured


# Bytes


def pieces_of(made: Made) -> Any:
    pieces = read_pieces(made.data / "tokenizer")
    assert pieces is not None
    return pieces


def test_leading_spaces_counted_twice(made: Made) -> None:
    pieces, ids = pieces_of(made), made.values()
    spaces = np.array([pieces.has_space(token) for token in ids])
    made.rewrite(made.values(sidecar=True) + spaces, sidecar=True)
    finding = refused(made, "RECOUNT")
    assert "leading spaces are counted twice" in finding.summary
    assert finding.witness["sidecar_bytes"] > finding.witness["raw_bytes"]


def test_byte_fallback_counted_as_three(made: Made) -> None:
    pieces, ids = pieces_of(made), made.values()
    is_byte = pieces.byte[ids] >= 0
    assert is_byte.any(), "the text has no characters beyond the vocabulary"
    counts = np.where(is_byte, 3, made.values(sidecar=True))
    made.rewrite(counts, sidecar=True)
    assert "byte-fallback pieces are counted as 3.0" in refused(made, "RECOUNT").summary


def test_case_controls_counted(made: Made) -> None:
    pieces, ids = pieces_of(made), made.values()
    controls = np.array([pieces.has_control(token) for token in ids])
    assert controls.any()
    made.rewrite(made.values(sidecar=True) + 3 * controls, sidecar=True)
    assert "case controls are counted as bytes" in refused(made, "RECOUNT").summary


def test_constant_bytes_per_token(made: Made) -> None:
    ids = made.values()
    made.rewrite(np.where(ids == ids[0], 0, 4), sidecar=True)
    assert "constant bytes per token, 4" in refused(made, "RECOUNT").summary


def test_a_byte_in_a_document_beyond_the_sample(made: Made) -> None:
    assert Recount(max_documents=2).check(open_subject(made.run, made.data)).verdict == PASS
    one_document(made)
    finding = Recount(max_documents=2).check(open_subject(made.run, made.data))
    assert finding.verdict == FAIL and finding.witness["document"] == 5


def test_a_run_from_before_the_list_is_no_reason(made: Made) -> None:
    shutil.copytree(made.run, made.run.parent / "20200101-000000-0000")
    assert made.finding("SEEDS").verdict == PASS
    shutil.copytree(made.run, made.run.parent / "20991231-000000-0000")
    finding = made.finding("SEEDS")
    assert finding.verdict == FAIL and finding.witness["first_unlisted"] == "20991231-000000-0000"


def test_bytes_of_the_result_alone(made: Made) -> None:
    result = made.result()
    result["bpb"]["final"]["bpb"] *= 0.9
    made.save(result)
    finding = made.finding("RECOUNT")
    assert finding.verdict == FAIL and finding.witness["where"] == "result.json bpb.final"


def test_a_tokenizer_that_loses_text(made: Made) -> None:
    """The documents are those of before a casefold and a collapse of white space."""
    path = made.data / "documents" / "validation.jsonl.zst"
    rows = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    texts = [json.loads(line)["text"] for line in rows.splitlines()]
    other = [text.replace("a", "A") for text in texts]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in other)
    path.write_bytes(zstandard.ZstdCompressor().compress(lines.encode()))
    finding = refused(made, "ROUNDTRIP")
    assert finding.witness["document"] == 0 or finding.witness["changed"] == len(texts)


# What is scored


def test_truncated_validation(made: Made) -> None:
    ids, counts = made.values(), made.values(sidecar=True)
    end = int(np.flatnonzero(ids == ids[0])[-3])  # without the last three documents
    made.rewrite(ids[:end])
    made.rewrite(counts[:end], sidecar=True)
    raw = json.loads((made.data / "manifest.json").read_text())
    raw["validation"]["num_documents"] -= 3
    (made.data / "manifest.json").write_text(json.dumps(raw))
    finding = refused(made, "COVER")
    assert finding.witness["expected_documents"] - finding.witness["documents"] == 3


def test_a_dropped_tail(made: Made) -> None:
    result = made.result()
    result["bpb"]["final"]["tokens"] -= 17
    made.save(result)
    finding = made.finding("COVER")
    assert finding.verdict == FAIL
    assert finding.witness["tokens"] - finding.witness["scored_tokens"] == 17


def test_another_stream_than_the_manifest_says(made: Made) -> None:
    shard = made.manifest.validation.shards[0]
    path = made.data / shard.tokens.path
    data = bytearray(path.read_bytes())
    data[1024 + 40] ^= 1
    path.unlink()
    path.write_bytes(bytes(data))
    finding = made.finding("COVER")
    assert finding.verdict == FAIL and finding.witness["file"] == str(path)


def test_a_sidecar_read_as_tokens(made: Made) -> None:
    raw = json.loads((made.data / "manifest.json").read_text())
    shard = raw["validation"]["shards"][0]
    raw["validation"]["shards"].append({**shard, "tokens": shard["sidecar"]})
    (made.data / "manifest.json").write_text(json.dumps(raw))
    finding = made.finding("COVER")
    assert finding.verdict == FAIL and "sidecar is read as tokens" in finding.summary


# Text that must not be seen


def test_training_and_validation_overlap(made: Made) -> None:
    ids, training = made.values(), made.values(split="training")
    starts = np.flatnonzero(ids == ids[0])
    shared = ids[starts[2] : starts[3]]
    training_of(made, np.concatenate([training, shared]))
    finding = refused(made, "DISJOINT")
    assert finding.witness["validation_document"] == 2 and finding.witness["overlapping"] == 1


def test_validation_documents_with_a_changed_token_are_nearly_the_same(made: Made) -> None:
    ids, training = made.values(), made.values(split="training")
    changed = ids.copy()
    starts = np.flatnonzero(ids == ids[0])
    changed[starts + 2] = ids[starts + 1]
    training_of(made, np.concatenate([training, changed]))
    for mode in ("quick", "full"):
        finding = made.finding("DISJOINT", mode)
        assert finding.verdict == FAIL and finding.witness["nearly_whole"] > 0.9 * len(starts)
    # Of few documents it could be chance, or text that repeats itself: somebody has to look.
    training_of(made, np.concatenate([training, changed[: starts[3]]]))
    finding = made.finding("DISJOINT", "full")
    assert finding.verdict == UNDECIDED and finding.witness["near"] == 3


@pytest.mark.parametrize("kind", ["text", "tokens"])
def test_validation_text_in_the_artifact(made: Made, kind: str) -> None:
    path = made.data / "documents" / "validation.jsonl.zst"
    rows = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    content = "\n".join(json.loads(line)["text"] for line in rows.splitlines()).encode()
    content = content if kind == "text" else made.values().astype("<i4").tobytes()
    with zipfile.ZipFile(made.run / "artifact" / "code.zip", "a") as archive:
        archive.writestr("pgolf/table.bin", content, zipfile.ZIP_DEFLATED)
    finding = made.finding("STORED")
    assert finding.verdict == FAIL and finding.witness["file"] == "code.zip/pgolf/table.bin"


def with_ttt(made: Made, **ttt: Any) -> None:
    text = (made.run / "config.yaml").read_text()
    import yaml

    config = yaml.safe_load(text)
    config["ttt"] = ttt
    (made.run / "config.yaml").write_text(yaml.safe_dump(config))


def test_training_on_validation_before_it_is_scored(made: Made) -> None:
    with_ttt(made, _target_="pgolf.ttt.prequant.PreQuantTTT", source="validation", epochs=21)
    finding = made.finding("LEDGER")
    assert finding.verdict == FAIL and finding.witness["epochs"] == 21
    assert "before that text is scored" in finding.summary
    with_ttt(made, _target_="pgolf.ttt.prequant.PreQuantTTT", source="train", epochs=21)
    assert made.finding("LEDGER").verdict == PASS


def test_a_calibration_on_validation(made: Made) -> None:
    result = made.result()
    result["provenance"]["calibration"] = "validation text"
    made.save(result)
    assert made.finding("LEDGER").witness["text"] == "validation text"


def curve(made: Made, tokens: list[int]) -> None:
    """As score_first with chunks of 400 tokens would leave it."""
    with_ttt(made, _target_="pgolf.ttt.score_first.ScoreFirstTTT", chunk_tokens=400)
    final = made.result()["bpb"]["final"]
    rows = [
        {"event": "ttt_curve", "stage": "final", "tokens": t, "bpb": final["bpb"]} for t in tokens
    ]
    share = final["nats"] / max(1, len(tokens))
    norm = next(e["before"] for e in made.events() if e["event"] == "state")
    states = {"opened": norm, "before": norm, "after": norm, "predictor": [norm, norm]}
    parts = [
        {
            "event": "ttt_part", "stage": "final", "part": number, "begin": begin, "tokens": end,
            "nats": share, "states": states,
        }
        for number, (begin, end) in enumerate(pairwise([0, *tokens]))
    ]  # fmt: skip
    made.save_events([*made.events(), *parts, *rows])


def test_parts_in_order_pass_and_parts_scored_again_do_not(made: Made) -> None:
    total = int(made.result()["bpb"]["final"]["tokens"])
    parts = [*range(400, total, 400), total]
    events = made.events()
    curve(made, parts)
    assert made.finding("LEDGER").verdict == PASS
    made.save_events(events)
    curve(made, [*parts[:2], parts[0], *parts[2:]])
    finding = made.finding("LEDGER")
    assert finding.verdict == FAIL and finding.witness["position"] == parts[0]
    made.save_events(events)
    curve(made, parts[:-1])
    assert made.finding("LEDGER").verdict == FAIL


def test_adapting_without_a_record(made: Made) -> None:
    curve(made, [])
    assert made.finding("LEDGER").witness["event"] == "ttt_curve"


# Bytes and seconds


def test_an_artifact_over_the_limit(made: Made) -> None:
    extra = made.run / "artifact" / "table.bin"
    extra.write_bytes(bytes(16_000_001))
    finding = made.finding("RELOAD")
    assert finding.verdict == FAIL and finding.witness["total_bytes"] > 16_000_000


def test_code_left_out_of_the_count(made: Made) -> None:
    code_left_out(made)
    finding = made.finding("RELOAD")
    assert finding.witness["total_bytes"] > finding.witness["reported_bytes"]


@pytest.mark.parametrize(
    ("source", "module"),
    [("import urllib.request\n", "urllib.request"), ("from my_kernels import f\n", "my_kernels")],
)
def test_code_that_is_not_self_contained(made: Made, source: str, module: str) -> None:
    with zipfile.ZipFile(made.run / "artifact" / "code.zip", "a") as archive:
        archive.writestr("pgolf/more.py", source)
    result = made.result()
    size = sum(path.stat().st_size for path in (made.run / "artifact").iterdir())
    result["artifact"]["total_bytes"] = size
    made.save(result)
    assert made.finding("RELOAD").witness["module"] == module


def test_another_score_after_reloading(made: Made) -> None:
    final = made.result()["bpb"]["final"]
    again = {**final, "nats": final["nats"] * 1.001}
    failures = made.audit("full", rescore=lambda: again).failures
    assert [finding.probe for finding in failures] == ["RELOAD"]
    assert failures[0].witness["reloaded_nats"] == again["nats"]


def test_a_second_that_is_not_charged(made: Made) -> None:
    result = made.result()
    result["seconds"]["start_produce"] -= 1.0
    budget = next(b for b in result["budgets"] if b["name"] == "train")
    budget["charged_s"] = sum(result["seconds"][stage] for stage in budget["what"])
    made.save(result)
    finding = made.finding("METER")
    assert finding.verdict == FAIL and finding.witness["uncharged_s"] == pytest.approx(1.0, abs=0.2)


def test_quantization_after_the_clock(made: Made) -> None:
    result = made.result()
    result["budgets"][0]["what"].remove("pack")
    result["budgets"][0]["charged_s"] -= result["seconds"]["pack"]
    seconds = result["seconds"]["pack"]
    result["budgets"].append(
        {"name": "offline", "limit_s": None, "charged_s": seconds, "what": ["pack"]}
    )
    made.save(result)
    finding = made.finding("METER")
    assert finding.verdict == FAIL and finding.witness["stage"] == "pack"


def test_a_stage_that_took_longer_than_is_charged(made: Made) -> None:
    events = made.events()
    train = next(e for e in events if e["event"] == "stage" and e["stage"] == "train"
                 and e.get("status") == "done")  # fmt: skip
    train["seconds"] += 50.0
    made.save_events(events)
    finding = made.finding("METER")
    assert finding.witness["measured_s"] - finding.witness["charged_s"] == pytest.approx(50, abs=1)


def test_a_budget_over_its_limit(made: Made) -> None:
    result = made.result()
    result["seconds"]["train"] += 700.0
    result["budgets"][0]["charged_s"] += 700.0
    made.save(result)
    finding = made.finding("METER")
    assert finding.verdict == FAIL and finding.witness["limit_s"] == 600


# The record


def test_an_edited_score(made: Made) -> None:
    result = made.result()
    for key in ("nats", "bpb"):
        result["bpb"]["final"][key] *= 0.99
    made.save(result)
    finding = refused(made, "PROV")
    assert finding.witness["reported"] == pytest.approx(0.99 * finding.witness["measured"])


def test_numbers_without_a_run(made: Made) -> None:
    made.save_events([e for e in made.events() if e["event"] != "score"])
    assert "No event" in refused(made, "PROV").summary


def test_a_swapped_artifact(made: Made) -> None:
    swapped(made)
    finding = made.finding("PROV")
    assert finding.verdict == FAIL and finding.witness["file"] == "artifact/model.pgolf"


def test_another_configuration(made: Made) -> None:
    with_ttt(made, _target_="pgolf.ttt.none.NoTTT", other=1)
    assert made.finding("PROV").witness["file"] == "config.yaml"


def test_runs_that_are_gone(made: Made) -> None:
    row = json.loads((made.run.parent / "runs.jsonl").read_text().splitlines()[0])
    with open(made.run.parent / "runs.jsonl", "a") as file:
        file.write(json.dumps({**row, "run_id": "20260101-000000-0000", "bpb": 9.0}) + "\n")
    finding = made.finding("SEEDS")
    assert finding.witness["first_missing"] == "20260101-000000-0000"
    shutil.copytree(made.run, made.run.parent / "20260101-000000-0000")
    finding = made.finding("SEEDS")  # it is there, but the worse of two with the same seed
    assert finding.verdict == FAIL and finding.witness["runs"] == 2


def test_an_attempt_without_a_score_may_be_deleted(made: Made) -> None:
    row = json.loads((made.run.parent / "runs.jsonl").read_text().splitlines()[0])
    with open(made.run.parent / "runs.jsonl", "a") as file:
        file.write(json.dumps({**row, "run_id": "20260101-000000-0000", "bpb": None}) + "\n")
    finding = made.finding("SEEDS")
    assert finding.verdict == PASS and finding.witness["unfinished"] == 1
    assert "attempts that ended without a score and are gone: 1" in finding.not_checked


def test_a_run_that_no_list_knows(made: Made) -> None:
    (made.run.parent / "runs.jsonl").unlink()
    assert made.finding("SEEDS").verdict == UNDECIDED


def test_an_artifact_folder_alone(made: Made) -> None:
    alone = Made(made.run / "artifact", made.data)
    verdict = alone.audit()
    marks = {finding.probe: finding.verdict for finding in verdict.findings}
    assert marks["FLIP"] == marks["SUM"] == marks["RECOUNT"] == PASS
    assert marks["METER"] == marks["PROV"] == "NOT_APPLICABLE"


def test_a_folder_that_is_neither(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a finished run"):
        open_subject(tmp_path)
