"""The README.md of a records folder."""

from __future__ import annotations

from typing import Any

import yaml


def readme(
    record: dict[str, Any],
    config: dict[str, Any],
    results: list[dict[str, Any]],
    has_tokenizer: bool,
) -> str:
    """What was done, how it scored, whether it counts, and how to repeat it.

    Args:
        record: content of submission.json.
        config: of the first run.
        results: of all runs, by seed.
        has_tokenizer: whether `tokenizer/` lies in the folder.
    """
    sections = [
        f"# {record['name']}",
        f"{record['blurb']}",
        _eligibility(record, results),
        _results(record, results),
        _repeat(record, config, results[0], has_tokenizer),
        _configuration(config),
    ]
    return "\n\n".join(sections) + "\n"


def _eligibility(record: dict[str, Any], results: list[dict[str, Any]]) -> str:
    if record["eligible"]:
        verdict = "Eligible: nothing that was measured breaks a rule."
    else:
        verdict = "**NOT ELIGIBLE.** This score must not stand beside eligible ones:"
    lines = [verdict, *(f"- {reason}" for reason in record["eligibility_reasons"])]
    lines += [f"- Note: {note}" for note in record["notes"]]
    lines.append(f"- Track: {record['eligibility_track']}")
    for result in results:
        if "audit" in result:
            audit = f"{result['audit']['verdict']} ({result['audit']['mode']})"
            lines.append(f"- Audit{_of_seed(result, results)}: {audit}")
    if record["control_val_bpb"] is not None:
        lines.append(f"- Without test-time training: {record['control_val_bpb']:.6f} BPB")
    return "\n".join(["## Eligibility", "", *lines])


def _results(record: dict[str, Any], results: list[dict[str, Any]]) -> str:
    rows = ["| seed | val_bpb | val_loss | bytes | steps | ms a step | evaluation s |"]
    rows.append("|---|---|---|---|---|---|---|")
    for seed, row in record["seed_results"].items():
        cells = [
            f"{row['val_bpb']:.6f}",
            f"{row['val_loss']:.6f}",
            f"{row['artifact_bytes']:,}",
            *(_number(row[key]) for key in ("steps", "step_avg_ms", "eval_time_s")),
        ]
        rows.append(f"| {seed} | {' | '.join(cells)} |")
    mean = f"Mean {record['val_bpb']:.6f} BPB"
    if record["val_bpb_std"] is not None:
        mean += f", standard deviation {record['val_bpb_std']:.6f}, n={len(record['seeds'])}"
    budgets = [
        f"- {budget['name']}{_of_seed(result, results)}: {budget['charged_s']:.1f} s "
        f"of {budget['limit_s']:.0f} s"
        for result in results
        for budget in result["budgets"]
        if budget["limit_s"] is not None
    ]
    size = (
        f"Largest: {record['bytes_model']:,} bytes of model and {record['bytes_code']:,} of "
        f"script, {record['bytes_total']:,} of 16,000,000. On {record['hardware']}."
    )
    return "\n".join(["## Results", "", *rows, "", f"{mean}. {size}", "", *budgets])


def _of_seed(result: dict[str, Any], results: list[dict[str, Any]]) -> str:
    return f", seed {result['seed']}" if len(results) > 1 else ""


def _number(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.1f}"


def _repeat(
    record: dict[str, Any], config: dict[str, Any], result: dict[str, Any], has_tokenizer: bool
) -> str:
    seed = record["seeds"][0]
    # hardware=auto leaves the number open: a worker a GPU.
    gpus = result["provenance"].get("gpus") or []
    workers = config["hardware"].get("num_workers") or len(gpus) or 1
    tokenizer = (
        "`tokenizer/` is the one that the shards were made with."
        if has_tokenizer
        else "The tokenizer is the one of the data set."
    )
    data = config["data"].get("dataset") or config["data"]["_target_"].rpartition(".")[2]
    return "\n".join(
        [
            "## How to repeat it",
            "",
            "    pip install -r requirements.txt",
            f"    SEED={seed} DATA_PATH=/path/to/shards \\",
            f"      torchrun --standalone --nproc_per_node={workers} train_gpt.py",
            "",
            f"`DATA_PATH` holds the shards ({data}): `fineweb_train_*.bin`, `fineweb_val_*.bin` "
            "and `fineweb_val_bytes_*.bin`, or a manifest.json that names others. "
            f"{tokenizer} The script trains, adapts, quantizes, writes "
            "`out_seed*/pack/artifact/model.pgolf`, reads it again and scores it. "
            "It was made by pgolf from its own modules and needs nothing of it.",
        ]
    )


def _configuration(config: dict[str, Any]) -> str:
    groups = ("model", "optim", "train", "ttt", "quant", "codec", "eval", "hardware", "tokenizer")
    shown = {group: config[group] for group in groups}
    text = yaml.safe_dump(shown, sort_keys=False, default_flow_style=False)
    return f"## Configuration\n\n```yaml\n{text}```"
