"""Records folders: clean ones pass, each faulty one is refused, malicious ones do no harm."""

from __future__ import annotations

import base64
import json
import lzma
import math
import os
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from pgolf.audit.finding import FAIL, PASS, UNDECIDED, Finding, Verdict
from pgolf.audit.records.audit import audit_records_folder, is_records_folder
from pgolf.audit.records.log import parse_log
from pgolf.cli import main
from tests.audit.upstream_scripts import (
    BYTES,
    MUTATIONS,
    RESULTS,
    SCRIPT,
    TOKENS,
    log_text,
    make_records,
    mutated,
)

ALWAYS_OPEN = {"FLIP", "SUM", "LEDGER", "ROUNDTRIP", "DISJOINT", "DOCS"}


def by_probe(findings: list[Finding]) -> dict[str, Finding]:
    """The weightiest finding of each probe."""
    weight = {FAIL: 2, UNDECIDED: 1, PASS: 0}
    found: dict[str, Finding] = {}
    for finding in sorted(findings, key=lambda f: weight[f.verdict]):
        found[finding.probe] = finding
    return found


def pack(text: str) -> str:
    raw = lzma.compress(text.encode(), format=lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2}])
    return (
        "import lzma as L,base64 as B\nexec(L.decompress(B.b85decode("
        f'"{base64.b85encode(raw).decode()}"),format=L.FORMAT_RAW,filters=[{{"id":L.FILTER_LZMA2}}]))'
    )


@pytest.mark.parametrize("script", [SCRIPT, pack(SCRIPT)], ids=["plain", "packed"])
def test_a_clean_folder_passes_all_that_text_can_show(tmp_path: Path, script: str) -> None:
    findings = audit_records_folder(make_records(tmp_path, script))
    for probe, finding in by_probe(findings).items():
        assert finding.verdict == (UNDECIDED if probe in ALWAYS_OPEN else PASS), finding
    # Text proves no causality: not refused, and not called eligible either.
    assert Verdict("x", "records", "full", findings).verdict == "UNDECIDED"
    assert all(finding.not_checked for finding in findings if finding.probe in ALWAYS_OPEN)


def test_which_folders_are_records(tmp_path: Path) -> None:
    assert is_records_folder(make_records(tmp_path / "a"))
    assert not is_records_folder(tmp_path) and not is_records_folder(tmp_path / "none")
    (tmp_path / "train_seed1.log").write_text("")
    assert is_records_folder(tmp_path)
    (tmp_path / "result.json").write_text("{}")
    assert not is_records_folder(tmp_path)


@pytest.mark.parametrize("wrap", [str, pack], ids=["plain", "packed"])
@pytest.mark.parametrize("name", MUTATIONS)
def test_faulty_code_is_refused_or_pointed_at(tmp_path: Path, name: str, wrap: Any) -> None:
    fault, certainty, _ = MUTATIONS[name]
    findings = audit_records_folder(make_records(tmp_path, wrap(mutated(name))))
    (finding,) = (f for f in findings if f.witness.get("class") == fault)
    assert finding.verdict == (FAIL if certainty == "CERTAIN" else UNDECIDED)
    place = finding.witness["lines"][0]
    assert place["line"] > 1 and place["file"].startswith("train_gpt.py")
    expected = "NOT ELIGIBLE" if certainty == "CERTAIN" else "UNDECIDED"
    assert Verdict("x", "records", "full", findings).verdict == expected


# Classes that the logs and claims show: probe, words of the summary, changes of the clean folder.
LOG_FAULTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    # #1698: +17%; the log alone shows it.
    "leading space twice": ("RECOUNT", "+17", {"bytes": int(BYTES * 1.17)}),
    # #1184: +4.1% on a tokenization whose number of tokens nobody knows.
    "byte fallback as three": (
        "RECOUNT", "+4.1", {"bytes": int(BYTES * 1.041), "tokens": 50_000_000},
    ),
    # #2138: one line of the log divides by another count.
    "two denominators": (
        "RECOUNT", "two different byte counts",
        {"extra": "cond_ppm val_loss:2.40982833 val_bpb:1.01073000"},
    ),
    "its own count": (
        "RECOUNT", "164,594,398", {"extra": f"cond tokens={TOKENS} bytes=164594398 bpb=0.97"},
    ),
    "partial validation": ("COVER", "50.0%", {"bytes": BYTES, "tokens": TOKENS, "half": True}),
    "16 MiB": ("RELOAD", "16 MiB", {"model": 16_500_000}),
    "code left out": ("RELOAD", "code is left out", {"total": 15_950_000}),
    "training too long": ("METER", "700.0 s", {"train_ms": 700_000}),
    "evaluation too long": ("METER", "627.3 s", {"eval_ms": 627_269}),
    "calibration after the clock": (
        "METER", "10.7 s of Hessians",
        {"train_ms": 599_000, "after": "gptq:loop-aware calibrated 50 layers in 10.7s"},
    ),
    # V15's own accounting: 588 s, 401.8 s of adaptation and 50 s of Hessians.
    "prequant not charged": (
        "METER", "401.8 s of test-time training",
        {"after": "prequant_ttt:epoch 21/21 loss:2.1 time:401.8s\n"
                  "GPTQ:collected 67 Hessians in 50.0s"},
    ),
    "other code": (
        "PROV", "not the code here",
        {"head": "import os\nprint('other')\n" + "=" * 100 + "\n"},
    ),
    "unknown setting": ("PROV", "ttt_hash_embed", {"settings": {"ttt_hash_embed": "True"}}),
    "best seed": ("SEEDS", "the best seed", {"submission": {"val_bpb": 1.08034}}),
    "better mean": ("SEEDS", "less than the seeds give", {"submission": {"val_bpb": 1.079}}),
    "no log": ("PROV", "No log of seed 7", {"submission": {"seeds": [1337, 42, 999, 7]}}),
    "number from nowhere": (
        "PROV", "stands nowhere",
        {"submission": {"seed_results": {
            str(s): {"val_bpb": b - 0.001} for s, b in RESULTS.items()}, "val_bpb": 1.07974}},
    ),
    "a copied seed": (
        "SEEDS", "same score",
        {"submission": {"seed_results": {str(s): {"val_bpb": 1.08034} for s in RESULTS}}},
    ),
    "over the limit by claim": ("RELOAD", "over", {"submission": {"bytes_total": 16_000_001}}),
}  # fmt: skip


@pytest.mark.parametrize("name", LOG_FAULTS)
def test_faults_in_logs_and_claims_are_refused(tmp_path: Path, name: str) -> None:
    probe, words, change = LOG_FAULTS[name]
    half = change.pop("half", False) if "half" in change else False
    folder = make_records(tmp_path, **change)
    if half:
        for path in folder.glob("*.log"):
            path.write_text(path.read_text().replace(str(TOKENS), str(TOKENS // 2)))
    found = by_probe(audit_records_folder(folder))
    assert found[probe].verdict == FAIL, found[probe]
    assert words in found[probe].summary and found[probe].witness
    others = {p for p, f in found.items() if f.verdict == FAIL} - {probe}
    assert others <= ({"PROV"} if "copied" in name else set()), found


def test_another_text_than_the_record_tracks_is_not_refused_for_its_size(tmp_path: Path) -> None:
    folder = make_records(tmp_path, submission={"track": "non_record"})
    for path in folder.glob("*.log"):
        path.write_text(path.read_text().replace(str(TOKENS), str(TOKENS // 2)))
    assert by_probe(audit_records_folder(folder))["COVER"].verdict == UNDECIDED


def test_mixed_configurations_among_seeds(tmp_path: Path) -> None:
    folder = make_records(tmp_path)
    path = folder / "train_seed42.log"
    text = log_text(42, RESULTS[42], settings={"ttt_enabled": "False", "run_id": "x"})
    path.write_text(text)
    finding = by_probe(audit_records_folder(folder))["PROV"]
    assert finding.verdict == FAIL and "ttt_enabled" in finding.summary


def test_what_is_not_a_fault(tmp_path: Path) -> None:
    """Cases that were accepted, and that a hasty auditor would refuse."""
    ratio = math.log(2) * BYTES / TOKENS
    clean: list[dict[str, Any]] = [
        # One step after 600 s ends the run: #1's baseline stopped at 600.051 s.
        {
            "train_ms": 600_051,
            "extra": "step:1/2 train_loss:1 train_time:600051ms step_avg:69.49ms",
        },
        {"settings": {"run_id": "abc", "logfile": "logs/x.txt"}},
        # Diagnostics take longer than the score's own evaluation.
        {"extra": f"diagnostic val_loss:{2.4:.8f} val_bpb:{2.4 / ratio:.8f} eval_time:700000ms"},
        {"submission": {"val_bpb": 1.0807, "val_bpb_std": 0.0003}},
    ]
    for index, change in enumerate(clean):
        change.setdefault("after", "")
        found = by_probe(audit_records_folder(make_records(tmp_path / str(index), **change)))
        open_or_refused = {p: f for p, f in found.items() if f.verdict != PASS}
        assert set(open_or_refused) == ALWAYS_OPEN, open_or_refused


def test_a_source_at_the_head_of_a_log_is_compared(tmp_path: Path) -> None:
    head = SCRIPT.replace("\n", "  \n") + "=" * 100 + "\n"
    for script in (SCRIPT, pack(SCRIPT), "# a comment\n" + SCRIPT):
        found = by_probe(audit_records_folder(make_records(tmp_path, script, head=head)))
        assert found["PROV"].verdict == PASS, found["PROV"]
    changed = head.replace("5e-4", "1e-3").replace("stride=64", "stride=16")
    found = by_probe(audit_records_folder(make_records(tmp_path, head=changed)))
    assert found["PROV"].verdict == FAIL


def test_a_population_deviation_is_named(tmp_path: Path) -> None:
    """#1738 states 0.00057 for its three seeds: divided by n; by n - 1 it is 0.00070."""
    v15 = {1337: 1.03484, 42: 1.03618, 999: 1.03519}
    claims = {
        "val_bpb": 1.0354, "val_bpb_std": 0.00057, "seeds": list(v15),
        "seed_results": {str(s): {"val_bpb": b} for s, b in v15.items()},
    }  # fmt: skip
    folder = make_records(tmp_path, submission=claims)
    (folder / "README.md").write_text("mean 1.0354\n")
    for seed, bpb in v15.items():
        (folder / f"train_seed{seed}.log").write_text(log_text(seed, bpb))
    finding = by_probe(audit_records_folder(folder))["SEEDS"]
    assert finding.verdict == PASS and "divides by n" in finding.summary
    assert finding.witness["std"] == pytest.approx(0.000695, abs=1e-6)


def test_old_logs_are_read_too() -> None:
    """The forms of March 2026."""
    text = """\
W0318 14:37:59 torch/distributed/run.py: Setting OMP_NUM_THREADS
val_loader:shards pattern=/root/fineweb_val_*.bin tokens:62021632
train_batch_tokens:524288 iterations:20000 warmup_steps:20 max_wallclock_seconds:600.000
seed:1337
step:200/20000 val_loss:2.8397 val_bpb:1.6774 train_time:8699ms step_avg:43.49ms
step:13780/20000 val_loss:2.0606 val_bpb:1.2172 train_time:600038ms step_avg:43.54ms
stopping_early: wallclock_cap train_time:600038ms step:13780/20000
Serialized model: 67224983 bytes
Code size: 47642 bytes
Total submission size: 67272625 bytes
Serialized model int8+zlib: 15815847 bytes (payload:17178912 ratio:3.91x)
Total submission size int8+zlib: 15863489 bytes
final_int8_zlib_roundtrip val_loss:2.0727 val_bpb:1.2244 eval_time:1401ms
final_int8_zlib_roundtrip_exact val_loss:2.07269931 val_bpb:1.22436570
"""
    log = parse_log(text, "train.log")
    assert (log.seed, log.val_tokens, log.steps, log.stop_line) == (1337, 62_021_632, 13_780, 7)
    assert log.train_s == pytest.approx(600.038) and log.step_ms == 43.54 and log.cap_s == 600
    assert log.final is not None and log.final.val_bpb == 1.2243657 and log.final.line == 14
    assert log.size("total submission size") == 15_863_489
    assert log.scores[-2].eval_s == pytest.approx(1.401) and log.source is None


def test_a_malicious_folder_does_no_harm_and_is_reported(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("still here")
    folder = make_records(tmp_path / "evil", f"import os\nos.remove({str(victim)!r})\n")
    bomb = base64.b85encode(zlib.compress(b"#" * (1 << 28), 9)).decode()
    (folder / "helper.py").write_text(
        f"import zlib, base64\nexec(zlib.decompress(base64.b85decode('{bomb}')))\n"
    )
    script = f"import helper, os\nos.remove({str(victim)!r})\n"
    (folder / "train_gpt.py").write_text(script)
    claims = json.loads((folder / "submission.json").read_text())
    claims["logs"] = ["../../../etc/passwd", "/etc/shadow"]
    (folder / "submission.json").write_text(json.dumps(claims))
    with open(folder / "train_seed1337.log", "r+b") as file:
        file.truncate(10 << 30)  # sparse: 10 GB that take no space
    os.symlink("/etc/passwd", folder / "train_seed5.log")
    os.mkfifo(folder / "train_seed6.log")
    start = time.monotonic()
    finding = by_probe(audit_records_folder(folder))["READ"]
    assert time.monotonic() - start < 60
    assert victim.read_text() == "still here"
    assert finding.verdict == UNDECIDED
    said = " ".join(finding.not_checked)
    for words in ("zip bomb", "only its ends", "passwd", "/etc/shadow", "seed5.log is a link"):
        assert words in said, (words, said)
    assert "train_seed6.log is no regular file" in said


@pytest.mark.parametrize(
    "content", ["[" * 100_000, "{}", "[1]", "null", '{"val_bpb": "x", "seed_results": [1]}',
                '{"val_bpb": NaN, "seed_results": {"a": 1, "1": {"val_bpb": "z"}}, "seeds": "q"}'],
)  # fmt: skip
def test_claims_of_any_form_break_nothing(tmp_path: Path, content: str) -> None:
    folder = make_records(tmp_path)
    (folder / "submission.json").write_text(content)
    assert {f.probe for f in audit_records_folder(folder)} >= {"RECOUNT", "SEEDS", "PROV"}


def test_an_empty_folder_is_undecided(tmp_path: Path) -> None:
    (tmp_path / "submission.json").write_text("{}")
    findings = audit_records_folder(tmp_path)
    assert {f.verdict for f in findings} <= {UNDECIDED, PASS}
    assert Verdict("x", "records", "full", findings).verdict == "UNDECIDED"


def test_the_command_knows_records_and_exits_by_the_verdict(tmp_path: Path, capsys: Any) -> None:
    clean = make_records(tmp_path / "clean")
    faulty = make_records(tmp_path / "faulty", mutated("prequant"))
    assert main(["audit", str(clean)]) == 4
    assert "UNDECIDED" in capsys.readouterr().out
    assert main(["audit", str(faulty), "--json"]) == 3
    answer = json.loads(capsys.readouterr().out)
    assert answer["kind"] == "records" and answer["verdict"] == "NOT ELIGIBLE"
    # A folder of others is read, not written into.
    assert not (faulty / "audit.json").exists()


def test_a_data_script_that_leaves_validation_documents_to_training(tmp_path: Path) -> None:
    """Issue #2127: the default of 10,000 documents puts 80% of validation into training."""
    folder = make_records(tmp_path)
    line = 'parser.add_argument("--val-docs", type=int, default={})\n'
    for count, said in (("10_000", True), ("50_000", False)):
        (folder / "prepare_caseops_data.py").write_text("import argparse\n" + line.format(count))
        finding = by_probe(audit_records_folder(folder))["DISJOINT"]
        assert finding.verdict == UNDECIDED
        assert ("line 2" in finding.summary) == said


def test_a_seed_may_have_two_logs(tmp_path: Path) -> None:
    folder = make_records(tmp_path)
    for seed, bpb in RESULTS.items():
        text = log_text(seed, bpb, settings={"eval_only": "True"})
        (folder / f"eval_seed{seed}.log").write_text(text)
        train = (folder / f"train_seed{seed}.log").read_text().splitlines()
        (folder / f"train_seed{seed}.log").write_text("\n".join(train[:-1]))
    (folder / "train_gpt.py").write_text(SCRIPT + "eval_only = True\n")
    found = by_probe(audit_records_folder(folder))
    assert found["PROV"].verdict == PASS and found["SEEDS"].verdict == PASS, found


def test_a_readme_with_another_mean_is_noticed(tmp_path: Path) -> None:
    folder = make_records(tmp_path)
    (folder / "README.md").write_text("mean val_bpb **1.0787**, std 0.0004\n")
    assert by_probe(audit_records_folder(folder))["SEEDS"].verdict == UNDECIDED
    (folder / "README.md").write_text("mean val_bpb **1.081** over seeds\n")
    assert by_probe(audit_records_folder(folder))["SEEDS"].verdict == PASS
