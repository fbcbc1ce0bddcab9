"""From logs alone: the raw bytes that a BPB was divided by, and the bytes of the artifact."""

from __future__ import annotations

import lzma
import re
import statistics
from typing import Any

from pgolf.audit.finding import FAIL, PASS, UNDECIDED, Finding
from pgolf.audit.records.folder import Records
from pgolf.audit.records.log import Log, Scored, bytes_per_token
from pgolf.result import ARTIFACT_LIMIT_BYTES

# Raw UTF-8 bytes of the first 50,000 FineWeb documents, as the published sidecar counts them.
FULL_BYTES = 151_074_309
# Tokens of that text in the published shards: CaseOps without and with its tail, plain 8192, 1024.
KNOWN_TOKENS = frozenset({47_851_520, 47_853_343, 40_540_160, 62_021_632})
# Dropped tails and normalised documents move the bytes by 0.01%; the mildest known fault, byte
# fallback counted as three, by 4.1%.
CLOSE, OFF, FAR = 0.001, 0.01, 0.035
OTHER_TRACK = ("non_record", "non-record", "track_non_record")
# Within one log: evaluations may leave out a tail each.
SPREAD = 0.003
MIB_LIMIT = 16 * 1024 * 1024


def recount(records: Records) -> Finding:
    """RECOUNT: one denominator in all lines of all logs, and the bytes that the text has."""
    ratios = _ratios(records)
    if not ratios:
        return Finding(
            "RECOUNT", UNDECIDED, "No line gives a loss beside a BPB: bytes cannot be inferred.",
            not_checked=["bytes per token"],
        )  # fmt: skip
    for found in (_mixed_in_a_log(records), _mixed_over_logs(ratios), _counted_bytes(records)):
        if found is not None:
            return found
    return _against_the_text(records, ratios)


def _ratios(records: Records) -> dict[str, float]:
    """Bytes of a token by each log's final score, or else by submission.json's numbers."""
    ratios = {}
    for log in records.logs:
        if log.final is not None:
            ratios[log.name] = bytes_per_token([log.final])[0][1]
    loss, bpb = records.claim("val_loss"), records.claim("val_bpb")
    if not ratios and all(isinstance(v, int | float) and v > 0 for v in (loss, bpb)):
        ratios["submission.json"] = bytes_per_token([Scored("", 0, loss, bpb, 8)])[0][1]
    return ratios


def _mixed_in_a_log(records: Records) -> Finding | None:
    for log in records.logs:
        rows = [row for row in bytes_per_token(log.scores) if row[2] < SPREAD]
        if len(rows) < 2:
            continue
        middle = statistics.median(ratio for _, ratio, _ in rows)
        score, ratio, error = max(rows, key=lambda row: abs(row[1] - middle))
        if abs(ratio / middle - 1) > SPREAD + 2 * error:
            return Finding(
                "RECOUNT", FAIL,
                f"{log.name} divides by two different byte counts: line {score.line} by "
                f"{ratio:.4f} bytes a token, the others by {middle:.4f}.",
                {"file": log.name, "line": score.line, "bytes_per_token": ratio, "others": middle},
            )  # fmt: skip
    return None


def _mixed_over_logs(ratios: dict[str, float]) -> Finding | None:
    low, high = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
    if ratios[high] / ratios[low] - 1 <= SPREAD:
        return None
    return Finding(
        "RECOUNT", FAIL,
        f"The seeds were not scored alike: {ratios[low]:.4f} bytes a token in {low}, "
        f"{ratios[high]:.4f} in {high}.",
        {"file": low, "bytes_per_token": ratios[low], "other_file": high, "other": ratios[high]},
    )  # fmt: skip


def _counted_bytes(records: Records) -> Finding | None:
    """A scorer's own count of bytes over the full text."""
    for log in records.logs:
        for line, tokens, total in log.counted:
            if tokens in KNOWN_TOKENS and abs(total / FULL_BYTES - 1) > OFF:
                return Finding(
                    "RECOUNT", FAIL,
                    f"{log.name} line {line} counts {total:,} bytes for {tokens:,} tokens, the "
                    f"text has {FULL_BYTES:,}.",
                    {"file": log.name, "line": line, "bytes": total, "expected": FULL_BYTES},
                )  # fmt: skip
    return None


def _against_the_text(records: Records, ratios: dict[str, float]) -> Finding:
    tokens = {log.name: log.val_tokens for log in records.logs if log.val_tokens}
    known = {name: count for name, count in tokens.items() if name in ratios}
    if not known:
        return Finding(
            "RECOUNT", UNDECIDED,
            "All scores imply the same bytes a token, but no log says how many tokens there are.",
            {"bytes_per_token": ratios}, not_checked=["the total of the bytes"],
        )  # fmt: skip
    name = max(known, key=lambda n: abs(ratios[n] * known[n] / FULL_BYTES - 1))
    implied, count = ratios[name] * known[name], known[name]
    excess = implied / FULL_BYTES - 1
    witness: dict[str, Any] = {
        "file": name, "bytes": round(implied), "expected": FULL_BYTES, "tokens": count,
    }  # fmt: skip
    said = f"{name} implies {implied:,.0f} raw bytes, {excess:+.2%} of the {FULL_BYTES:,} there are"
    if excess > FAR or (excess > OFF and count in KNOWN_TOKENS):
        return Finding("RECOUNT", FAIL, f"{said}: bytes are counted that do not exist.", witness)
    if abs(excess) > CLOSE:
        return Finding("RECOUNT", UNDECIDED, f"{said}: another text, or another count.", witness)
    return Finding(
        "RECOUNT", PASS, f"{said}.", witness,
        not_checked=["bytes of single tokens: the shards and the tokenizer are not in the folder"],
    )  # fmt: skip


def cover(records: Records) -> Finding:
    """COVER: the same and the whole validation text in every log."""
    counts = {log.name: log.val_tokens for log in records.logs if log.val_tokens}
    if not counts:
        return Finding(
            "COVER", UNDECIDED, "No log says how many validation tokens there are.",
            not_checked=["completeness of the validation text"],
        )  # fmt: skip
    if len(set(counts.values())) > 1:
        return Finding(
            "COVER", FAIL, "The logs have different validation texts.", {"tokens": counts}
        )
    ratios = _ratios(records)
    for name, count in counts.items():
        share = ratios.get(name, 0.0) * count / FULL_BYTES
        if 0 < share < 1 - 2 * OFF:
            # On another text than the record track's nobody knows how much there would be.
            other = str(records.claim("track")).startswith(OTHER_TRACK)
            return Finding(
                "COVER", UNDECIDED if other else FAIL,
                f"{name} scores {share:.1%} of the validation text: {count:,} tokens of "
                f"{ratios[name]:.4f} bytes.",
                {"file": name, "tokens": count, "share": share},
            )  # fmt: skip
    if set(counts.values()) <= KNOWN_TOKENS:
        return Finding(
            "COVER", PASS, "The validation text is complete by its number of tokens.",
            {"tokens": counts}, not_checked=["which positions were scored, and how often"],
        )  # fmt: skip
    return Finding(
        "COVER", UNDECIDED, "The number of validation tokens is none of the published shards'.",
        {"tokens": counts},
    )  # fmt: skip


def artifact_size(records: Records) -> Finding:
    """RELOAD: model and code together stay within the limit, by log and by the files here."""
    totals: dict[str, int] = {}
    packed = _packed_code(records)
    for log in records.logs:
        if (wrong := _wrong_sum(log)) is not None:
            return wrong
        model, logged = _model_bytes(log), log.size(r"total submission size")
        if logged is not None:
            totals[log.name] = logged
        if model is not None and records.code:
            totals[f"{log.name} with the code here, packed"] = model + packed
    totals |= _claimed_sizes(records)
    witness: dict[str, Any] = {"limit": ARTIFACT_LIMIT_BYTES, "total_bytes": totals}
    if not totals:
        return Finding(
            "RELOAD", UNDECIDED, "Nothing says how large the artifact is.",
            not_checked=["size of the artifact", "the score in a fresh process"],
        )  # fmt: skip
    where = max(totals, key=totals.__getitem__)
    if totals[where] > ARTIFACT_LIMIT_BYTES:
        # 16 MB are 16,000,000 bytes; 16 MiB would be 5% more.
        hint = ", though under 16 MiB" if totals[where] <= MIB_LIMIT else ""
        return Finding(
            "RELOAD", FAIL,
            f"{totals[where]:,} bytes by {where}, over {ARTIFACT_LIMIT_BYTES:,}{hint}.", witness,
        )  # fmt: skip
    plain = sum(file.size for file in records.code)
    largest = max((m for log in records.logs if (m := _model_bytes(log))), default=0) + plain
    note = (
        f" With the code as it lies here it would be {largest:,}: it fits packed only."
        if largest > ARTIFACT_LIMIT_BYTES
        else ""
    )
    return Finding(
        "RELOAD", PASS, f"At most {totals[where]:,} bytes, by {where}.{note}", witness,
        not_checked=["the score in a fresh process with the shipped files alone"],
    )  # fmt: skip


def _wrong_sum(log: Log) -> Finding | None:
    """A total that is less than model and code together."""
    model, total = _model_bytes(log), log.size(r"total submission size")
    codes = [size for _, what, size in log.sizes if re.search(r"code size", what, re.I)]
    if model is None or total is None or not codes or total >= model + min(codes):
        return None
    left_out = "code is left out" if total == model else "the sum is wrong"
    return Finding(
        "RELOAD", FAIL,
        f"{log.name} counts {total:,} bytes, but model {model:,} and code {min(codes):,} are more: "
        f"{left_out}.",
        {"file": log.name, "total_bytes": total, "model_bytes": model, "code_bytes": min(codes)},
    )  # fmt: skip


def _packed_code(records: Records) -> int:
    """Bytes of the code as it lies here or packed into one string, whichever is less."""
    total = 0
    for file in records.code:
        raw = lzma.compress(file.layers[0].text.encode(), preset=9)
        total += min(file.size, len(raw) * 5 // 4 + 100)
    return total


def _model_bytes(log: Log) -> int | None:
    """The compressed model; the raw one is written before it, in a line of its own."""
    for what in (r"quantized|compressed|int\d|\+|zlib|brotli|zstd|lzma",):
        if (found := log.size(r"serialized model", what)) is not None:
            return found
    return None


def _claimed_sizes(records: Records) -> dict[str, int]:
    found = {}
    for key in ("bytes_total", "artifact_bytes_max", "artifact_bytes", "total_bytes"):
        value = records.submission.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            found[f"submission.json {key}"] = value
    for seed, row in records.seed_results.items():
        value = row.get("artifact_bytes", row.get("bytes_total"))
        if isinstance(value, int) and not isinstance(value, bool):
            found[f"submission.json seed {seed}"] = value
    return found
