"""A published training log as a run folder: its score stands in tables and comparisons.

Only what the log says is written; the verdict is "not eligible", since nothing was measured or
audited here.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pgolf.audit.records.log import Log, Scored, bytes_per_token, charged_phases, parse_log
from pgolf.errors import UserError
from pgolf.files import atomic_writer, sha256_file, sha256_json, write_json
from pgolf.new_folder import check_new, write_whole
from pgolf.result import (
    BUDGET_LIMIT_S,
    BYTES_WITHIN,
    TRACK_ADAPTIVE,
    TRACK_FIXED,
    Eligibility,
    build_result,
)

MAX_LOG_BYTES = 2**26
LN2 = math.log(2.0)
NOT_AUDITED = (
    "Imported from a published log: the numbers are the log's own, nothing was measured or audited "
    "here."
)
# Settings that differ between the seeds of one configuration.
OF_SEED = re.compile(r"seed|run_id|.*(?:file|path|dir|name)s?$")
STEP = re.compile(
    r"(?<!\w)(?P<step>\d+)/\d+\s+train_loss\s*[:=]\s*(?P<loss>[\d.]+)"
    r"(?:.*?train_time\s*[:=]\s*(?P<time>[\d.]+)\s*(?P<unit>ms|s|m)\b)?"
)
UNIT_S = {"ms": 1e-3, "s": 1.0, "m": 60.0}
EPOCH = re.compile(r"ttt\w*\s*:\s*epoch\s+(?P<epoch>\d+)/\d+\s+val_bpb\s*[:=]\s*(?P<bpb>[\d.]+)")


def import_log(file: Path, folder: Path, val_tokens: int | None) -> dict[str, Any]:
    """Write a run folder with result.json, events.jsonl, config.yaml and the log.

    Args:
        file: train_seed*.log as the published scripts write it.
        folder: must not hold anything yet.
        val_tokens: scored tokens, where the log does not say.

    Returns:
        a summary.

    Raises:
        UserError: the file has no score, no seed, no size, or does not say how many tokens count.
    """
    check_new(folder)
    text = _read(file)
    log = parse_log(text, file.name)
    if val_tokens is not None and val_tokens < 1:
        raise UserError(f"--val-tokens {val_tokens}: expected 1 or more")
    settings = {k: v for k, v in log.settings.items() if not OF_SEED.fullmatch(k.lower())}
    name = f"published-{re.sub(r'[^A-Za-z0-9.=+-]+', '-', file.resolve().parent.name) or 'log'}"
    result = result_of(log, file, name, settings, val_tokens)

    def fill(work: Path) -> None:
        write_json(work / "result.json", result)
        with atomic_writer(work / "events.jsonl", "w") as out:
            for event in events_of(text, log, file.stat().st_mtime):
                out.write(json.dumps(event) + "\n")
        with atomic_writer(work / "config.yaml", "w") as out:
            config = {"name": name, "seed": log.seed, "published": settings}
            out.write(OmegaConf.to_yaml(config))
        with atomic_writer(work / "log.txt", "w") as out:
            out.write(text)

    write_whole(folder, fill)
    final = result["bpb"]["final"]
    return {
        "folder": str(folder),
        "seed": log.seed,
        "bpb": final["bpb"],
        "nats_per_token": final["nats_per_token"],
        "tokens": final["tokens"],
        "total_bytes": result["artifact"]["total_bytes"],
        "eligible": False,
        "notes": result["eligibility"]["notes"],
    }


def _read(file: Path) -> str:
    try:
        size = file.stat().st_size
        if size > MAX_LOG_BYTES:
            raise UserError(f"{file}: {size:,} bytes, more than any training log")
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read ({error.strerror}); name a training log"
        ) from error


def result_of(
    log: Log, file: Path, name: str, settings: dict[str, str], val_tokens: int | None
) -> dict[str, Any]:
    """The content of result.json, checked.

    Raises:
        UserError: as `import_log`.
    """
    final = log.final
    if final is None or final.is_step:
        raise UserError(f"{file}: no final score (val_loss and val_bpb on one line)")
    if log.seed is None:
        raise UserError(f"{file}: says no seed; name it like train_seed42.log")
    tokens, raw_bytes = _counts(log, final, file, val_tokens)
    seconds, budget_of = _seconds(log, final)
    model, code = _sizes(log, file)
    notes, bytes_within = [NOT_AUDITED], 0
    if raw_bytes is None:
        notes.append("Bytes are not in the log: they are what its loss and BPB imply.")
        ((_, ratio, error),) = bytes_per_token([final])
        raw_bytes = max(1, round(ratio * tokens))
        bytes_within = math.ceil(error * raw_bytes) + 1
    scores = {"final": _score(final.val_bpb, tokens, raw_bytes)}
    for key, scored in _earlier(log, final).items():
        scores[key] = _score(scored.val_bpb, tokens, raw_bytes)
    time = datetime.datetime.fromtimestamp(file.stat().st_mtime, datetime.UTC)
    return build_result(
        run_id=f"imported-{sha256_file(file)[:12]}",
        name=name,
        seed=log.seed,
        overrides=[],  # seeds of one configuration have one name in tables
        scores=scores,
        artifact={"model_bytes": model, "code_bytes": code},
        seconds=seconds,
        budget_of=budget_of,
        limits_s={"train": BUDGET_LIMIT_S, "evaluate": BUDGET_LIMIT_S},
        eligibility=Eligibility(False, _track(log, final), [NOT_AUDITED], notes[1:]),
        provenance={
            "time": time.isoformat(timespec="seconds"),
            "imported": {
                "file": str(file.resolve()),
                "sha256": sha256_file(file),
                BYTES_WITHIN: bytes_within,
            },
            "command": None,
            "git": None,
            "python": None,
            "platform": None,
            "cpu": None,
            "gpus": [],
            "packages": {},
        },
        config_hash=sha256_json(settings or {"log": sha256_file(file)})[:16],
    )


def _counts(log: Log, final: Scored, file: Path, val_tokens: int | None) -> tuple[int, int | None]:
    """Scored tokens, and raw bytes where the log has both beside its last score."""
    if log.counted:
        _, tokens, raw_bytes = log.counted[-1]
        implied = final.val_loss * tokens / LN2 / final.val_bpb
        if tokens and abs(raw_bytes / implied - 1) < 1e-4:
            return tokens, raw_bytes
    tokens = val_tokens or log.val_tokens or 0
    if tokens < 1:
        raise UserError(
            f"{file}: does not say how many tokens were scored: add --val-tokens N (47851520 of "
            "the published CaseOps validation, 40540160 of sp8192, 62021632 of sp1024)"
        )
    return tokens, None


def _score(bpb: float, tokens: int, raw_bytes: int) -> dict[str, float]:
    """BPB as it is written, with the nats that it means."""
    nats = bpb * LN2 * raw_bytes
    return {
        "bpb": bpb,
        "nats": nats,
        "nats_per_token": nats / tokens,
        "tokens": tokens,
        "bytes": raw_bytes,
    }


def _earlier(log: Log, final: Scored) -> dict[str, Scored]:
    """Scores on the way, by the names of the published scripts, where they are clear."""
    words = {
        "trained": r"^trained$",
        "ema": r"^ema$|post.?ema",
        "adapted": r"^adapted$|post.?prequant.?ttt",
        "quantized": r"^(?:diagnostic )?quantized$|^final_int\d\w*roundtrip(?:_exact)?$",
    }
    if log.steps is not None:  # the last score of the training loop
        words["trained"] += rf"|^(?:step\s*:?\s*)?{log.steps}/\d+$"
    found = {}
    others = [s for s in log.scores if s is not final and not _is_same(s, final)]
    for key, pattern in words.items():
        rows = [s for s in others if re.search(pattern, s.name, re.I)]
        if rows:
            found[key] = rows[-1]
    return found


def _is_same(scored: Scored, final: Scored) -> bool:
    """One evaluation on two lines: rounded with its seconds, then with all digits."""
    return f"{scored.name}_exact" == final.name


def _seconds(log: Log, final: Scored) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds by stage, and the budget of each."""
    seconds: dict[str, float] = {}
    if log.train_s is not None:
        seconds["train"] = log.train_s
    for what, (_, spent) in charged_phases(log).items():
        seconds[what] = spent
    budget_of = dict.fromkeys(seconds, "train")
    rounded = [scored.eval_s for scored in log.scores if _is_same(scored, final)]
    spent_on_final = [log.total_eval[1] if log.total_eval else None, final.eval_s, *rounded]
    evaluation = next((spent for spent in spent_on_final if spent is not None), None)
    if evaluation is not None:
        seconds["final"], budget_of["final"] = evaluation, "evaluate"
    return seconds, budget_of


def _sizes(log: Log, file: Path) -> tuple[int, int]:
    """Bytes of model and code; of a log with their sum alone, all of it as the model's.

    Raises:
        UserError: there is none.
    """
    code = log.size(r"(?<![a-z])code(?![a-z])") or 0  # not "BrotliCodec"
    total = log.size(r"total", r"submission") or log.size(r"total")
    if total is not None and total >= code:
        return total - code, code
    model = log.size(r"serialized", r"int|quant|brotli|lzma|zlib")
    if model is None:
        raise UserError(f'{file}: says no size of the artifact ("Total submission size ...")')
    return model, code


def _track(log: Log, final: Scored) -> str:
    if any(score.name == "control" for score in log.scores):  # of pgolf's scripts that adapt then
        return TRACK_ADAPTIVE
    adapts = re.search(r"(?<!pre.quant.)(?:ttt|lora|slot)", final.name, re.I)
    return TRACK_ADAPTIVE if adapts and "prequant" not in final.name.lower() else TRACK_FIXED


def events_of(text: str, log: Log, time: float) -> Iterator[dict[str, Any]]:
    """The training curve, as far as the log has one, and the final score.

    Args:
        time: Unix seconds that all events get.
    """
    batch = log.settings.get("train_batch_tokens", "")
    rate = int(batch) if batch.isdigit() else 0
    for line in text.splitlines():
        if found := STEP.search(line[:400]):
            step = int(found["step"])
            event = {
                "time": time,
                "event": "train_step",
                "stage": "train",
                "step": step,
                "train/loss": float(found["loss"]),
            }
            if found["time"]:
                event["elapsed_s"] = float(found["time"]) * UNIT_S[found["unit"]]
            if rate:
                event["tokens"] = step * rate
            yield event
        elif found := EPOCH.search(line[:400]):
            yield {
                "time": time,
                "event": "ttt_epoch",
                "stage": "ttt",
                "epoch": int(found["epoch"]),
                "val/bpb": float(found["bpb"]),
            }
    yield {"time": time, "event": "imported", "stage": "run", "lines": log.lines}
