"""Records folders of made-up runs: several seeds, sweeps, the size limit, and what is refused."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pgolf.config import compose
from pgolf.data.manifest import Manifest
from pgolf.errors import UserError
from pgolf.files import write_json
from pgolf.pack.packed_runs import events_of, read_runs
from pgolf.pack.published_log import log_of_run
from pgolf.pack.submission import About, check_size, requirements, submission
from pgolf.pack.submission_text import readme
from pgolf.runfolder import describe_run
from tests.report.fixtures import make_events, make_result


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return compose(["debug=cpu", "tracking=none"])


def make_run(
    folder: Path,
    config: dict[str, Any],
    seed: int,
    *,
    trained: bool = True,
    key: str = "k1",
    **settings: Any,
) -> Path:
    folder.mkdir(parents=True)
    result = make_result(seed=seed, eligible=True, **settings)
    result["provenance"].setdefault("time", "2026-11-24T08:15:02+00:00")
    write_json(folder / "result.json", result)
    describe_run(folder, {**config, "seed": seed}, [], {})
    events = [e for e in make_events() if trained or e["event"] != "train_step"]
    for event in events:
        if (event["event"], event["stage"], event.get("status")) == ("stage", "train", "done"):
            event |= {"key": key, "status": "done" if trained else "reused"}
    (folder / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    return folder


def test_seeds_are_put_together(tmp_path: Path, config: dict[str, Any]) -> None:
    shifts = {42: 0.01, 7: 0.0, 1337: -0.004}
    folders = [
        make_run(tmp_path / str(seed), config, seed, shift=shift, model_bytes=900_000 + seed)
        for seed, shift in shifts.items()
    ]
    runs = read_runs(folders)
    record = submission(runs, About("Ada", "ada", "A title", "A blurb."), code_bytes=5_000)
    scores = [run.result["bpb"]["final"]["bpb"] for run in runs]
    assert record["seeds"] == [7, 42, 1337]
    assert record["val_bpb"] == pytest.approx(statistics.fmean(scores), rel=1e-12)
    assert record["val_bpb_std"] == pytest.approx(statistics.stdev(scores), rel=1e-12)
    assert record["bytes_total"] == record["artifact_bytes_max"] == 900_000 + 1337 + 5_000
    assert [row["val_bpb"] for row in record["seed_results"].values()] == scores
    assert record["eligible"] and record["name"] == "A title"
    results = [run.result for run in runs]
    text = readme(record, runs[0].config, results, has_tokenizer=False)
    assert "Eligible" in text and "NOT ELIGIBLE" not in text
    assert text.count("- train, seed ") == 3 and "--nproc_per_node=1 " in text
    for seed, score in zip((7, 42, 1337), scores, strict=True):
        assert f"| {seed} | {score:.6f} |" in text


def test_a_sweep_names_its_runs(tmp_path: Path, config: dict[str, Any]) -> None:
    for job, seed in enumerate((1, 2)):
        folder = make_run(tmp_path / "runs" / str(seed), config, seed)
        (tmp_path / "sweep" / str(job)).mkdir(parents=True)
        outcome = {"overrides": [f"seed={seed}"], "run_folder": str(folder)}
        write_json(tmp_path / "sweep" / str(job) / "outcome.json", outcome)
    assert [run.seed for run in read_runs([tmp_path / "sweep"])] == [1, 2]
    assert [run.seed for run in read_runs([tmp_path / "runs"])] == [1, 2]
    (tmp_path / "sweep" / "2").mkdir()
    write_json(
        tmp_path / "sweep" / "2" / "outcome.json", {"overrides": ["seed=3"], "failed": "no disk"}
    )
    with pytest.raises(UserError, match="seed=3 failed"):
        read_runs([tmp_path / "sweep"])
    (tmp_path / "sweep" / "2" / "outcome.json").unlink()
    with pytest.raises(UserError, match=r"job 2 failed .ended without a word"):
        read_runs([tmp_path / "sweep"])
    (tmp_path / "sweep" / "2" / "outcome.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        read_runs([tmp_path / "sweep"])


def test_runs_that_do_not_belong_together_are_refused(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    one = make_run(tmp_path / "1", config, 1)
    with pytest.raises(UserError, match="same seed, 1"):
        read_runs([one, make_run(tmp_path / "again", config, 1)])
    with pytest.raises(UserError, match="2 configurations"):
        read_runs([one, make_run(tmp_path / "other", config, 2, epochs=3)])
    with pytest.raises(UserError, match="neither a finished run"):
        read_runs([one / "artifact"])
    whole = (one / "result.json").read_text()
    for content, reason in (('{"schema": 0}', "has schema 0"), ("[]", "expected an object")):
        (one / "result.json").write_text(content)
        with pytest.raises(UserError, match=f"{one}: .*{reason}"):
            read_runs([one])
    odd = {**json.loads(whole), "budgets": [1], "bpb": {"trained": 1}}
    (one / "result.json").write_text(json.dumps(odd))
    with pytest.raises(UserError, match=str(one)):
        read_runs([one])
    (one / "result.json").write_text(whole)
    (one / "events.jsonl").unlink()
    with pytest.raises(UserError, match=r"events.jsonl is missing"):
        read_runs([one])


def test_the_readme_starts_a_worker_for_each_gpu_of_the_run(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    [run] = read_runs([make_run(tmp_path / "1", config, 1)])
    assert run.config["hardware"]["num_workers"] is None
    run.result["provenance"]["gpus"] = ["NVIDIA H100"] * 4
    record = submission([run], About(), code_bytes=5_000)
    text = readme(record, run.config, [run.result], has_tokenizer=False)
    assert "4x NVIDIA H100" in text and "--nproc_per_node=4 " in text


def test_the_control_is_that_of_all_seeds(tmp_path: Path, config: dict[str, Any]) -> None:
    runs = read_runs([make_run(tmp_path / str(seed), config, seed) for seed in (1, 2)])
    for run, bpb in zip(runs, (1.5, 1.7), strict=True):
        run.result["control"] = {"bpb": bpb}
    record = submission(runs, About(), code_bytes=5_000)
    assert record["control_val_bpb"] == pytest.approx(1.6)
    runs[0].result["control"] = None
    assert submission(runs, About(), code_bytes=5_000)["control_val_bpb"] is None


def test_training_out_of_the_cache_is_found_where_it_ran(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    reused = make_run(tmp_path / "b", config, 1, trained=False)
    [run] = read_runs([reused])
    assert not any(event["event"] == "train_step" for event in events_of(run))
    make_run(tmp_path / "a", config, 1, key="k2")  # by other code
    damaged = make_run(tmp_path / "aa", config, 2, key="k3")
    (damaged / "config.yaml").write_text("{[")  # none of this run's business
    assert not any(event["event"] == "train_step" for event in events_of(run))
    make_run(tmp_path / "c", config, 1)
    steps = [event for event in events_of(run) if event["event"] == "train_step"]
    assert steps == [event for event in make_events() if event["event"] == "train_step"]


@pytest.mark.parametrize(
    ("limit_s", "official", "track"),
    [(600.0, True, "10min_16mb"), (3600.0, True, "non_record"), (600.0, False, "non_record")],
)
def test_the_track_is_that_of_text_and_limits(
    tmp_path: Path,
    config: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    limit_s: float,
    official: bool,
    track: str,
) -> None:
    manifest = SimpleNamespace(official_validation=official)
    monkeypatch.setattr(Manifest, "load", lambda folder: manifest)
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "manifest.json").touch()
    [run] = read_runs([make_run(tmp_path / "1", config, 1, train_limit_s=limit_s)])
    run.result["provenance"]["data"] = {"folder": str(tmp_path / "shards")}
    assert submission([run], About(), code_bytes=5_000)["track"] == track


def test_a_log_has_no_validation_text(tmp_path: Path, config: dict[str, Any]) -> None:
    """A scored document may say anything, "val_loss: 1.0 val_bpb: 1.0" as well."""
    [run] = read_runs([make_run(tmp_path / "1", config, 1)])
    run.result["bpb"]["final"]["seconds"] = 1.0
    row = {"document": 2, "bpb": 4.9, "text": "val_loss: 1.0 val_bpb: 1.0"}
    event = {"event": "documents", "stage": "evaluate", "count": 1, "worst": [row]}
    text = log_of_run(run.config, run.result, [*events_of(run), event], code_bytes=5_000)
    assert "val_loss: 1.0" not in text and "step:300/" in text
    last = f"final_exact val_loss:{run.result['bpb']['final']['nats_per_token']!r} "
    assert text.splitlines()[-1].startswith(last)


def test_over_the_limit_the_largest_modules_are_named() -> None:
    modules = {f"pgolf.m{index}": 1_000 * index for index in range(20)}
    check_size(15_990_000, 10_000, modules, False, None)
    with pytest.raises(UserError, match="1 over the limit") as caught:
        check_size(15_990_000, 10_001, modules, False, None)
    text = str(caught.value)
    assert "--minify --wrap brotli" in text and "pgolf.m19 19,000" in text
    assert "pgolf.m2 " not in text
    with pytest.raises(UserError) as caught:
        check_size(16_000_000, 1, modules, True, "lzma")
    assert "--minify" not in str(caught.value)


def test_requirements_are_what_the_run_had() -> None:
    external = {"os", "torch.nn.functional", "numpy", "brotli", "flash_attn", "triton.language"}
    packages = {"torch": "2.9.1+cu128", "numpy": "2.4.6", "brotli": "1.2.0", "wandb": "1"}
    assert requirements(external, packages) == ["brotli==1.2.0", "numpy==2.4.6", "torch==2.9.1"]
