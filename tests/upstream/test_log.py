"""Published logs stand beside runs, with their own numbers and marked as imported."""

from __future__ import annotations

import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from pgolf.audit.samples import read_side
from pgolf.cli import main
from pgolf.errors import UserError
from pgolf.pack.published_log import event_line, final_line, size_lines
from pgolf.report.history import read_run
from pgolf.report.overview import summary
from pgolf.report.page import write_report
from pgolf.report.rundata import load_run
from pgolf.report.texts import distinct_texts
from pgolf.result import TRACK_ADAPTIVE, validate_result
from pgolf.upstream.import_log import import_log

TOKENS, BYTES = 47_851_520, 151_074_309
# Published: PR #1738, seeds and sliding BPB; sizes of model and code together.
SEEDS = {1337: (1.03484, 15_996_061), 42: (1.03618, 15_996_195), 999: (1.03519, 15_994_993)}
CODE = 24_893


def lines(seed: int, bpb: float, total: int) -> list[str]:
    """A log in the words of the published script."""

    def scored(name: str, value: float, spent_ms: int) -> str:
        loss = value * math.log(2) * BYTES / TOKENS
        return f"{name} val_loss:{loss:.8f} val_bpb:{value:.8f} eval_time:{spent_ms}ms"

    return [
        "Hyperparameters:",
        f"  seed: {seed}",
        f"  run_id: v15_{seed}",
        "  train_batch_tokens: 786432",
        "  matrix_lr: 0.022",
        f"val_tokens: {TOKENS}",
        "1/20000 train_loss: 9.0091 train_time: 0.0m tok/s: 8200000",
        "500/20000 train_loss: 3.3127 train_time: 0.8m tok/s: 8100000",
        "4583/20000 val_loss: 2.3800 val_bpb: 1.0870",
        "stopping_early: wallclock_cap train_time: 588073ms step: 4583/20000",
        scored("pre-quantization post-ema", 1.08410, 7000),
        "prequant_ttt:start epochs=21 lr=0.0005 freeze_blocks=2 wd=0.0 parallel=8gpus",
        "prequant_ttt:epoch 1/21 chunk 1457/1461 lr=0.000500",
        "prequant_ttt:epoch 1/21 val_bpb=1.083488 lr=0.000500 time=66.8s",
        "prequant_ttt:epoch 21/21 val_bpb=1.028800 lr=0.000053 time=16.8s",
        "prequant_ttt:done in 401.8s (8 gpus)",
        scored("post-prequant-ttt", 1.02846, 7000),
        "Serialized model: 135431033 bytes",
        f"Code size: {CODE} bytes",
        "GPTQ:collected 67 Hessians in 50.0s",
        f"Serialized model quantized+brotli: {total - CODE} bytes",
        f"Total submission size quantized+brotli: {total} bytes",
        scored("quantized", 1.04818, 9000),
        scored("quantized_sliding_window", bpb, 122_000),
    ]


def write(folder: Path, seed: int, drop: str = "", **changes: str) -> Path:
    bpb, total = SEEDS[seed]
    kept = [line for line in lines(seed, bpb, total) if not drop or drop not in line]
    folder.mkdir(exist_ok=True)
    file = folder / f"train_seed{seed}.log"
    file.write_text("\n".join(kept) + "\n")
    return file


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    targets = []
    for seed in SEEDS:
        target = tmp_path / "runs" / str(seed)
        import_log(write(tmp_path / "V15", seed), target, None)
        targets.append(target)
    return targets


def test_the_numbers_are_the_logs(runs: list[Path]) -> None:
    for folder, (seed, (bpb, total)) in zip(runs, SEEDS.items(), strict=True):
        result = json.loads((folder / "result.json").read_text())
        validate_result(result)
        final = result["bpb"]["final"]
        assert (result["seed"], final["bpb"], final["tokens"]) == (seed, bpb, TOKENS)
        assert final["bytes"] == pytest.approx(BYTES, abs=3)
        assert result["artifact"]["total_bytes"] == total
        assert result["artifact"]["code_bytes"] == CODE
        assert result["seconds"] == {
            "train": 588.073, "test-time training before scoring": 401.8,
            "Hessians and calibration": 50.0, "final": 122.0,
        }  # fmt: skip
        scores = {k: v and round(v["bpb"], 5) for k, v in result["bpb"].items()}
        assert scores == {
            "trained": 1.087, "ema": 1.0841, "adapted": 1.02846, "quantized": 1.04818, "final": bpb,
        }  # fmt: skip


def test_seeds_are_one_configuration_of_one_text(
    runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Loss and BPB of each seed imply other bytes of the same text."""
    results = [json.loads((run / "result.json").read_text()) for run in runs]
    for result, more in zip(results, (-1, 0, 1), strict=True):
        result["bpb"]["final"]["bytes"] = BYTES + more
    assert len(distinct_texts(results)) == 1
    assert main(["compare", *map(str, runs)]) == 0
    table = capsys.readouterr().out
    assert re.search(r"published-V15 +3 +1\.03540 +0\.00070", table), table
    assert "different texts" not in table


def test_a_log_of_phases_while_scoring(tmp_path: Path) -> None:
    """PR #1736 and later: scores before the last are called diagnostics."""
    kept = lines(42, *SEEDS[42])
    kept = [line.replace("pre-quant", "diagnostic pre-quant", 1) for line in kept]
    kept = [line for line in kept if not line.startswith(("post-prequant", "prequant_ttt"))]
    places = {line.split(" ")[0]: i for i, line in enumerate(kept)}
    kept[places["quantized"]] = "diagnostic " + kept[places["quantized"]]
    last = kept.pop(places["quantized_sliding_window"])
    kept += ["ttpp: phase:1/3 pd:1104 gd:666 t:166.3s", "tttg: c1/111 lr:0.001000 t:0.3s",
             last.replace("sliding_window", "ttt_phased"), "total_eval_time:396.9s"]  # fmt: skip
    file = tmp_path / "train_seed42.log"
    file.write_text("\n".join(kept) + "\n")
    import_log(file, tmp_path / "run", None)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    scores = {k: v and round(v["bpb"], 5) for k, v in result["bpb"].items()}
    assert scores == {
        "trained": 1.087, "ema": 1.0841, "adapted": None, "quantized": 1.04818, "final": 1.03618,
    }  # fmt: skip
    assert result["eligibility"]["track"] == TRACK_ADAPTIVE
    assert result["seconds"]["final"] == 396.9


def test_a_log_of_the_first_scripts(tmp_path: Path) -> None:
    """Settings in lines of several; the last score twice, with its seconds and with all digits."""
    tokens, bpb = 62_021_632, 1.20155579
    loss = bpb * math.log(2) * BYTES / tokens
    file = tmp_path / "first" / "train.log"
    file.parent.mkdir()
    file.write_text(
        f"val_loader:shards pattern=/data/fineweb_val_*.bin tokens:{tokens}\n"
        "world_size:8 grad_accum_steps:1\n"
        "train_batch_tokens:524288 train_seq_len:1024 max_wallclock_seconds:600.000\n"
        "seed:42\n"
        "step:200/20000 train_loss:2.9296 train_time:11347ms step_avg:56.74ms\n"
        "step:10606/20000 val_loss:2.0398 val_bpb:1.2081 train_time:600017ms step_avg:56.57ms\n"
        "stopping_early: wallclock_cap train_time:600017ms step:10606/20000\n"
        "Code size: 50269 bytes\n"
        "Total submission size: 74624256 bytes\n"
        "Total submission size int8+zlib: 15024608 bytes\n"
        "eval_seq_len:2048 (NTK-scaled RoPE, 62021633 tokens)\n"
        f"final_int8_zlib_roundtrip val_loss:{loss:.4f} val_bpb:{bpb:.4f} eval_time:78305ms\n"
        f"final_int8_zlib_roundtrip_exact val_loss:{loss:.8f} val_bpb:{bpb:.8f}\n"
    )
    import_log(file, tmp_path / "run", None)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    scores = {k: v["bpb"] for k, v in result["bpb"].items() if v is not None}
    assert scores == {"trained": pytest.approx(1.2081), "final": bpb}
    assert result["seconds"] == {"train": 600.017, "final": 78.305}
    assert (result["seed"], result["artifact"]["total_bytes"]) == (42, 15_024_608)
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert "train_seq_len: '1024'" in config and "\n  step" not in config
    event = json.loads((tmp_path / "run" / "events.jsonl").read_text().splitlines()[0])
    assert event["tokens"] == 200 * 524_288


def test_nobody_takes_it_for_a_run_of_ours(runs: list[Path]) -> None:
    result = json.loads((runs[0] / "result.json").read_text())
    assert result["eligibility"]["eligible"] is False
    assert "Imported from a published log" in result["eligibility"]["reasons"][0]
    assert any("Bytes are not in the log" in note for note in result["eligibility"]["notes"])
    assert result["provenance"]["imported"]["file"].endswith("train_seed1337.log")
    assert result["provenance"]["git"] is None and result["control"] is None
    assert not (runs[0] / "audit.json").exists()


def test_it_stands_in_tables_reports_and_comparisons(runs: list[Path]) -> None:
    side, _ = read_side([str(run) for run in runs])
    assert side.mean == pytest.approx(1.03540, abs=5e-6)
    assert side.std == pytest.approx(0.00070, abs=5e-6)  # published 0.00057 divides by n
    assert statistics.pstdev(b for b, _ in SEEDS.values()) == pytest.approx(0.00057, abs=5e-6)
    assert len({json.loads((run / "result.json").read_text())["config_hash"] for run in runs}) == 1
    row = summary(read_run(runs[0]))
    assert (row["seed"], row["bpb"], row["state"]) == (1337, 1.03484, "finished")
    assert row["name"] == "published-V15" and row["step"] == 500
    run = load_run(runs[0])
    assert run.loss_by_step == [(1.0, 9.0091), (500.0, 3.3127)]
    assert run.ttt_bpb == [(1.0, 1.083488), (21.0, 1.0288)]
    write_report(runs[0])
    page = (runs[0] / "report.html").read_text()
    assert "1.0348" in page and "Imported from a published log" in page


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        ("val_bpb", "no final score"),
        ("val_tokens", "--val-tokens N"),
        ("bytes", "says no size of the artifact"),
    ],
)
def test_what_a_log_does_not_say_is_not_invented(tmp_path: Path, drop: str, message: str) -> None:
    file = write(tmp_path / "log", 42, drop)
    with pytest.raises(UserError, match=message):
        import_log(file, tmp_path / "run", None)
    assert not (tmp_path / "run").exists()


def test_other_ways_to_say_it(tmp_path: Path) -> None:
    file = write(tmp_path / "log", 42, "val_tokens")
    answer: dict[str, Any] = import_log(file, tmp_path / "named", TOKENS)
    assert answer["tokens"] == TOKENS and answer["bpb"] == 1.03618
    loss = 1.03618 * math.log(2) * BYTES / TOKENS
    exact = f"final val_loss:{loss!r} val_bpb:1.03618000 tokens:{TOKENS} bytes:{BYTES}\n"
    file.write_text(file.read_text() + exact)
    import_log(file, tmp_path / "counted", None)
    result = json.loads((tmp_path / "counted" / "result.json").read_text())
    assert result["bpb"]["final"]["bytes"] == BYTES and not result["eligibility"]["notes"]
    with pytest.raises(UserError, match="not empty"):
        import_log(file, tmp_path / "counted", None)
    with pytest.raises(UserError, match=r"gone.log: cannot be read"):
        import_log(tmp_path / "gone.log", tmp_path / "x", None)


def test_a_packed_scripts_log_has_its_own_sizes_and_track(tmp_path: Path) -> None:
    """No code is in a BrotliCodec; a score beside one without adapting has adapted."""
    kept = [line for line in lines(42, 1.07, 15_996_195) if "ubmission" not in line]
    kept = [line for line in kept if not line.startswith(("Serialized", "Code"))]
    kept += size_lines("BrotliCodec", 15_900_000, 20_000)
    for name, bpb in (("control", 1.08), ("final", 1.07)):
        kept.append(event_line("score", {"name": name, **scored_as(bpb)}, None))
    kept.append(final_line({**scored_as(1.07), "seconds": 9.0}))
    file = tmp_path / "train_seed42.log"
    file.write_text("\n".join(kept) + "\n")
    import_log(file, tmp_path / "run", None)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["artifact"]["model_bytes"], result["artifact"]["code_bytes"]) == (
        15_900_000,
        20_000,
    )
    assert result["bpb"]["final"]["bpb"] == 1.07
    assert result["eligibility"]["track"] == TRACK_ADAPTIVE


def scored_as(bpb: float) -> dict[str, Any]:
    nats = bpb * math.log(2) * BYTES / TOKENS
    return {"nats_per_token": nats, "bpb": bpb, "tokens": TOKENS, "bytes": BYTES}


def test_commands_say_what_an_imported_log_lacks(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(runs[0])]) == 2
    assert "it is an imported log" in capsys.readouterr().err
    log = str(write(tmp_path / "again", 42))
    words = ["import", log, "-o", str(tmp_path / "x")]
    for wrong in (["--tokenizer", "bytes.model"], ["scale.num_loops=1"]):
        assert main([*words, *wrong]) == 2
        assert "overrides and --tokenizer are of weights" in capsys.readouterr().err
    words[1] = "final_model.pt"
    assert main([*words, "--val-tokens", "3"]) == 2
    assert "--val-tokens is of logs" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
