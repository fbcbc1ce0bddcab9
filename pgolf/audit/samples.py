"""Samples to compare: run folders, sweep folders, JSON files or a bare number; and what they omit.

A JSON file is a list of BPB values; an object with `bpb` or `val_bpb` and `val_loss` (numbers or
lists) and `seeds`, or `val_loss` and `bytes_per_token`; `{seed: bpb}`; or a published
submission.json with `seed_results`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pgolf.audit.statistics import LN2, Score, Side
from pgolf.errors import UserError
from pgolf.provenance import BLIND_KEYS
from pgolf.result import validate_result_of

# What jobs of a multirun leave behind: pgolf.sweep writes it.
OUTCOME = "outcome.json"
BPB_KEYS, LOSS_KEYS = ("bpb", "val_bpb"), ("val_loss", "loss", "nats_per_token")
MAX_JSON_BYTES = 1 << 24


def read_side(sources: Sequence[str]) -> tuple[Side, list[str]]:
    """One sample from all sources, and warnings about runs that are not in it.

    Raises:
        UserError: a source is none of the known kinds, or holds no score.
    """
    if len(sources) == 1 and (number := _number(sources[0])) is not None:
        return Side([Score(f"the number {sources[0]}", number)], fixed=True), []
    scores: list[Score] = []
    warnings: list[str] = []
    for source in sources:
        if _number(source) is not None:
            raise UserError(f"{source}: a bare number stands alone, without other runs beside it")
        found, notes = _read(Path(source))
        scores += found
        warnings += notes
    return Side(scores), warnings + unreported(scores) + mixed(scores)


def _number(source: str) -> float | None:
    try:
        value = float(source)
    except ValueError:
        return None
    return value if value > 0 and math.isfinite(value) and not Path(source).exists() else None


def _read(path: Path) -> tuple[list[Score], list[str]]:
    if path.is_file():
        return _from_json(path, _load(path)), []
    if (path / "result.json").is_file():
        return [score_of_run(path)], []
    jobs = sorted(path.glob(f"*/{OUTCOME}"))
    if jobs:
        return _from_sweep(path, jobs)
    # Runs of one name lie in a folder of their own: out_dir/NAME/ID.
    runs = sorted([*path.glob("*/result.json"), *path.glob("*/*/result.json")])
    if runs:
        return [score_of_run(run.parent) for run in runs], []
    raise UserError(
        f"{path} is no run folder (result.json), no sweep folder (*/{OUTCOME}), no folder of runs "
        "and no JSON file with BPB values"
    )


def _load(path: Path) -> Any:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise UserError(f"{path} is larger than {MAX_JSON_BYTES:,} bytes: no list of scores")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error})") from error


def score_of_run(folder: Path) -> Score:
    """The final score of a run folder, checked."""
    result = _load(folder / "result.json")
    validate_result_of(folder, result)
    final = result["bpb"]["final"]
    if final is None:
        raise UserError(f"{folder}/result.json has no final score: the run was not evaluated")
    return Score(
        label=result["run_id"],
        bpb=final["bpb"],
        seed=result["seed"],
        tokens=final["tokens"],
        bytes=final["bytes"],
        config_hash=result["config_hash"],
        folder=str(folder.resolve()),
        eligible=result["eligibility"]["eligible"],
    )


def _from_sweep(path: Path, jobs: Sequence[Path]) -> tuple[list[Score], list[str]]:
    """Scores of a sweep's finished jobs; those that failed are counted."""
    outcomes = [_load(job) for job in jobs]
    good = [Path(o["run_folder"]) for o in outcomes if "run_folder" in o]
    jobless = sum(1 for p in path.iterdir() if p.name.isdigit() and not (p / OUTCOME).is_file())
    failed = len(outcomes) - len(good) + jobless
    notes = [f"{path}: {failed} of {len(outcomes) + jobless} jobs ended without a score."]
    return [score_of_run(folder) for folder in good], notes if failed else []


def _from_json(path: Path, content: Any) -> list[Score]:
    if isinstance(content, dict) and isinstance(content.get("seed_results"), dict):
        rows = {seed: _row(row) for seed, row in content["seed_results"].items()}
        scores = [_score(path, seed, *row) for seed, row in rows.items()]
    elif isinstance(content, dict) and any(key in content for key in BPB_KEYS + LOSS_KEYS):
        scores = _from_columns(path, content)
    elif isinstance(content, dict):
        scores = [_score(path, seed, *_row(row)) for seed, row in content.items()]
    elif isinstance(content, list):
        scores = [_score(path, None, *_row(row)) for row in content]
    else:
        scores = []
    if not scores:
        raise UserError(f"{path} holds no BPB values: expected a list, or an object with `bpb`")
    return scores


def _from_columns(path: Path, content: dict[str, Any]) -> list[Score]:
    loss = _column(next((content[key] for key in LOSS_KEYS if key in content), []))
    bpb = _column(next((content[key] for key in BPB_KEYS if key in content), []))
    if not bpb:
        bpb = _bpb_of(path, loss, content.get("bytes_per_token"))
    seeds = _column(content.get("seeds", content.get("seed", [])))
    for name, column in (("val_loss", loss), ("seeds", seeds)):
        if column and len(column) != len(bpb):
            raise UserError(f"{path}: {len(bpb)} BPB values but {len(column)} of {name}")
    return [
        _score(path, seeds[i] if seeds else None, value, loss[i] if loss else None)
        for i, value in enumerate(bpb)
    ]


def _bpb_of(path: Path, loss: list[Any], ratio: Any) -> list[Any]:
    if not isinstance(ratio, int | float) or not ratio > 0:
        raise UserError(
            f"{path} has nats per token only, which say nothing of bytes: add `bpb`, or "
            "`bytes_per_token` of the validation text"
        )
    return [value / LN2 / ratio if isinstance(value, int | float) else value for value in loss]


def _column(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _row(row: Any) -> tuple[Any, Any]:
    """BPB and nats per token of one seed."""
    if not isinstance(row, dict):
        return row, None
    first = [next((row[key] for key in keys if key in row), None) for keys in (BPB_KEYS, LOSS_KEYS)]
    return first[0], first[1]


def _score(path: Path, seed: Any, bpb: Any, loss: Any) -> Score:
    for value in (bpb, *([] if loss is None else [loss])):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or value <= 0:
            raise UserError(f"{path}: {value!r} is no score: expected a positive number")
    number = int(seed) if str(seed).lstrip("-").isdigit() else None
    name = path.name if seed is None else f"{path.name} seed {seed}"
    # Only the ratio is known of a published run: bytes of one token.
    ratio = None if loss is None else loss / LN2 / bpb
    return Score(name, float(bpb), number, None if ratio is None else 1.0, ratio)


def unreported(scores: Sequence[Score]) -> list[str]:
    """Runs of the same configuration that lie beside the given ones and are not among them."""
    given = {Path(score.folder) for score in scores if score.folder}
    found: list[str] = []
    for parent in sorted({folder.parent for folder in given}):
        hashes = {s.config_hash for s in scores if s.folder and Path(s.folder).parent == parent}
        others = [o for o in _others(parent, given) if o.config_hash in hashes]
        if others:
            here = [s.bpb for s in scores if s.folder and Path(s.folder).parent == parent]
            everything = here + [other.bpb for other in others]
            found.append(
                f"{parent} holds {len(everything)} runs of this configuration, {len(here)} are "
                f"given: their mean is {sum(here) / len(here):.5f}, that of all "
                f"{sum(everything) / len(everything):.5f} BPB. Not given: "
                f"{', '.join(f'{o.label} (seed {o.seed}, {o.bpb:.5f})' for o in others[:5])}"
                f"{' and more' if len(others) > 5 else ''}. Choosing among runs is not allowed."
            )
        found += _unfinished(parent, given)
    return found


def _others(parent: Path, given: set[Path]) -> list[Score]:
    others = []
    for path in sorted(parent.glob("*/result.json")):
        if path.parent in given:
            continue
        try:
            others.append(score_of_run(path.parent))
        except UserError:
            continue
    return others


def _unfinished(parent: Path, given: set[Path]) -> list[str]:
    """Run folders without a result: failed, killed or still running."""
    open_runs = [
        path.parent.name
        for path in sorted(parent.glob("*/config.yaml"))
        if path.parent not in given and not (path.parent / "result.json").is_file()
    ]
    if not open_runs:
        return []
    return [f"{parent} holds {len(open_runs)} runs without a result: {', '.join(open_runs[:5])}."]


def mixed(scores: Sequence[Score]) -> list[str]:
    """The settings in which runs with different configuration hashes differ."""
    one_each = {score.config_hash: score for score in scores if score.folder}
    settings = [_settings(Path(score.folder or "")) for score in one_each.values()]
    if len(settings) < 2 or not all(settings):
        return []
    keys = sorted(set().union(*settings))
    different = [k for k in keys if len({repr(s.get(k)) for s in settings}) > 1]
    rows = [f"{key} ({', '.join(str(s.get(key)) for s in settings)})" for key in different[:5]]
    more = f" and {len(different) - 5} more" if len(different) > 5 else ""
    return [f"The configurations differ in {', '.join(rows)}{more}."] if rows else []


def _settings(folder: Path) -> dict[str, Any]:
    """The resolved configuration, by dotted key, without what changes no number."""
    path = folder / "config.yaml"
    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError):
        return {}
    if not isinstance(content, dict):
        return {}
    return _flat({k: v for k, v in content.items() if k not in BLIND_KEYS}, "")


def _flat(value: dict[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            flat |= _flat(item, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = item
    return flat
