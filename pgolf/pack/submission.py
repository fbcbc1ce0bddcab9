"""A records folder from finished runs: the script, logs, results and what a reader has to know."""

from __future__ import annotations

import shutil
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgolf.bundle.scopes import BundleError
from pgolf.config import changed
from pgolf.container import split
from pgolf.data.manifest import Manifest
from pgolf.errors import UserError
from pgolf.files import write_json
from pgolf.new_folder import check_new, write_whole
from pgolf.pack.packed_runs import Packed, events_of, read_runs
from pgolf.pack.published_log import log_of_run
from pgolf.pack.script import Script, make_script
from pgolf.pack.submission_text import readme
from pgolf.result import ARTIFACT_LIMIT_BYTES, BUDGET_LIMIT_S

SCRIPT, LIMIT_BYTES = "train_gpt.py", ARTIFACT_LIMIT_BYTES
NOT_ELIGIBLE = "NOT ELIGIBLE"
# Packages by the module that a script imports, where the names differ.
DISTRIBUTIONS = {"flash_attn": "flash-attn"}
LARGEST = 8


@dataclass(frozen=True)
class About:
    """What only people know.

    Args:
        author, github_id: who submits; None leaves them to be filled in.
        name, blurb: title and summary; None takes the run's name and its parts.
    """

    author: str | None = None
    github_id: str | None = None
    name: str | None = None
    blurb: str | None = None


def pack(
    paths: list[Path],
    folder: Path,
    about: About,
    *,
    overrides: list[str],
    label: bool,
    short: bool,
    wrapped: str | None,
) -> dict[str, Any]:
    """Write the records folder; returns a summary.

    Args:
        paths: run folders or sweeps of one configuration, a run for each seed.
        folder: must not hold anything yet.
        overrides: other values of the group hardware, e.g. `hardware.kernels=plain`.
        label: pack what is not eligible, and say so everywhere.
        short, wrapped: as `pgolf.pack.script.make_script` takes them.

    Raises:
        UserError: the runs do not belong together, are not eligible, or do not fit the limit.
    """
    runs = read_runs(paths)
    reasons = {run.seed: run.result["eligibility"]["reasons"] for run in runs}
    if any(reasons.values()) and not label:
        seed, why = next((s, r) for s, r in reasons.items() if r)
        raise UserError(
            f"seed {seed} is not eligible: {' '.join(why)} --label packs it all the same, marked "
            f"as {NOT_ELIGIBLE}"
        )
    check_new(folder)
    script = _script(runs, overrides, any(reasons.values()), short, wrapped)
    code_bytes = len(script.data)
    check_size(max(run.model_bytes for run in runs), code_bytes, script.modules, short, wrapped)
    record = submission(runs, about, code_bytes)
    write_whole(folder, lambda work: _fill(work, runs, script, record))
    keys = ("name", "eligible", "val_bpb", "bytes_total", "bytes_code", "seeds")
    return {"folder": str(folder), **{key: record[key] for key in keys}}


def _script(
    runs: list[Packed], overrides: list[str], labelled: bool, short: bool, wrapped: str | None
) -> Script:
    first = runs[0]
    file = first.folder / "artifact" / "model.pgolf"
    if not file.is_file():
        raise UserError(f"{file} is missing: repeat the run, its finished stages are cached")
    _, header, _ = split(file.read_bytes(), file)
    if not first.result["provenance"].get("gpus"):
        # On a CPU kernels were plain; the fused ones would ask for triton wherever the script runs.
        overrides = ["hardware.kernels=plain", *overrides]
    config = changed(first.config, overrides, ("hardware",)) if overrides else first.config
    try:
        return make_script(
            config,
            label=NOT_ELIGIBLE if labelled else "eligible",
            tokenizer_fingerprint=str(header["tokenizer"]),
            code_bytes=int(first.result["artifact"]["code_bytes"]),
            short=short,
            wrapped=wrapped,
        )
    except BundleError as error:
        raise UserError(f"this configuration cannot be packed into one file: {error}") from error


def check_size(
    model_bytes: int, code_bytes: int, modules: dict[str, int], short: bool, wrapped: str | None
) -> None:
    """Raises UserError when model and script are over the limit, with what could be cut.

    Args:
        modules: bytes of each module in the readable script.
    """
    over = model_bytes + code_bytes - LIMIT_BYTES
    if over <= 0:
        return
    largest = sorted(modules.items(), key=lambda item: -item[1])[:LARGEST]
    flags = [] if short else ["--minify"]
    flags += [] if wrapped else ["--wrap brotli"]
    advice = f"try {' '.join(flags)}; " if flags else ""
    listed = ", ".join(f"{name} {size:,}" for name, size in largest)
    raise UserError(
        f"{model_bytes:,} bytes of model and {code_bytes:,} of script are {over:,} over the limit "
        f"of {LIMIT_BYTES:,}: {advice}or quantize further. Largest modules, in bytes of the "
        f"readable script: {listed}"
    )


def submission(runs: list[Packed], about: About, code_bytes: int) -> dict[str, Any]:
    """The content of submission.json: the published fields, then what pgolf knows besides."""
    first = runs[0].result
    controls = [run.result["control"]["bpb"] for run in runs if run.result["control"]]
    finals = [run.result["bpb"]["final"] for run in runs]
    losses, scores = ([f[key] for f in finals] for key in ("nats_per_token", "bpb"))
    sizes = [run.model_bytes + code_bytes for run in runs]
    reasons = list(dict.fromkeys(r for run in runs for r in run.result["eligibility"]["reasons"]))
    parts = ", ".join(f"{k}={_option(runs[0], k)}" for k in ("model", "optim", "ttt", "quant"))
    title = about.name or first["name"]
    packages = first["provenance"].get("packages", {})
    return {
        "author": about.author,
        "github_id": about.github_id,
        "name": f"{title} ({NOT_ELIGIBLE})" if reasons else title,
        "blurb": about.blurb or parts,
        "date": first["provenance"]["time"][:10],
        "track": _track(runs, bool(reasons)),
        "val_loss": statistics.fmean(losses),
        "val_bpb": statistics.fmean(scores),
        "val_loss_std": statistics.stdev(losses) if len(runs) > 1 else None,
        "val_bpb_std": statistics.stdev(scores) if len(runs) > 1 else None,
        "seeds": [run.seed for run in runs],
        "seed_results": {str(run.seed): _seed_result(run, code_bytes) for run in runs},
        "artifact_bytes_mean": round(statistics.fmean(sizes)),
        "artifact_bytes_max": max(sizes),
        "bytes_total": max(sizes),
        "bytes_model": max(run.model_bytes for run in runs),
        "bytes_code": code_bytes,
        "hardware": _hardware(first["provenance"]),
        "pytorch_version": packages.get("torch"),
        "technique_summary": parts,
        "eligible": not reasons,
        "eligibility_reasons": reasons,
        "eligibility_track": first["eligibility"]["track"],
        "notes": list(dict.fromkeys(n for run in runs for n in run.result["eligibility"]["notes"])),
        "control_val_bpb": statistics.fmean(controls) if len(controls) == len(runs) else None,
    }


def _seed_result(run: Packed, code_bytes: int) -> dict[str, Any]:
    final, seconds = run.result["bpb"]["final"], run.result["seconds"]
    steps = [event for event in events_of(run) if event["event"] == "train_step"]
    last = steps[-1] if steps else None
    return {
        "val_loss": final["nats_per_token"],
        "val_bpb": final["bpb"],
        "artifact_bytes": run.model_bytes + code_bytes,
        "steps": last["step"] if last else None,
        "step_avg_ms": 1000 * last["elapsed_s"] / last["step"] if last else None,
        "eval_time_s": final.get("seconds", seconds.get("final")),
        "run_id": run.result["run_id"],
        "eligible": run.result["eligibility"]["eligible"],
    }


def _option(run: Packed, group: str) -> str:
    """What a part is, by its class."""
    return str(run.config[group]["_target_"].rpartition(".")[2])


def _hardware(provenance: dict[str, Any]) -> str:
    gpus = provenance.get("gpus") or []
    return f"{len(gpus)}x {gpus[0]}" if gpus else f"CPU: {provenance.get('cpu', 'unknown')}"


def _track(runs: list[Packed], labelled: bool) -> str:
    data = runs[0].data
    official = data is not None and Manifest.load(data).official_validation is True
    limits = [b["limit_s"] for run in runs for b in run.result["budgets"] if b["limit_s"]]
    in_time = max(limits, default=0.0) <= BUDGET_LIMIT_S  # limits.train_s may have been raised
    return "10min_16mb" if official and in_time and not labelled else "non_record"


def _fill(folder: Path, runs: list[Packed], script: Script, record: dict[str, Any]) -> None:
    (folder / SCRIPT).write_bytes(script.data)
    write_json(folder / "submission.json", record)
    for run in runs:
        text = log_of_run(run.config, run.result, events_of(run), record["bytes_code"])
        (folder / f"train_seed{run.seed}.log").write_text(text, encoding="utf-8")
    packages = runs[0].result["provenance"].get("packages", {})
    lines = requirements(script.external, packages)
    (folder / "requirements.txt").write_text("".join(f"{x}\n" for x in lines), encoding="utf-8")
    data = runs[0].data
    has_tokenizer = data is not None and (data / "tokenizer").is_dir()
    if data is not None and has_tokenizer:
        shutil.copytree(data / "tokenizer", folder / "tokenizer")
    text = readme(record, runs[0].config, [run.result for run in runs], has_tokenizer)
    (folder / "README.md").write_text(text, encoding="utf-8")


def requirements(external: set[str], packages: dict[str, str]) -> list[str]:
    """`name==version` of the packages that a script imports, as the run had them.

    A package that the run did without is a choice that the script makes where it is installed.
    """
    roots = {module.partition(".")[0] for module in external} - set(sys.stdlib_module_names)
    names = sorted(DISTRIBUTIONS.get(root, root) for root in roots)
    # A local version, e.g. 2.9.1+cu128, is on no index.
    return [f"{n}=={packages[n].partition('+')[0]}" for n in names if n in packages]
