"""From logs and claims: seconds against the budgets, seeds and their statistics, and provenance."""

from __future__ import annotations

import ast
import decimal
import hashlib
import re
import statistics
from typing import Any

from pgolf.audit.finding import FAIL, PASS, UNDECIDED, Finding
from pgolf.audit.records.folder import Code, Records
from pgolf.audit.records.log import Log, charged_phases
from pgolf.audit.records.unpack import unpack
from pgolf.result import BUDGET_LIMIT_S

# Settings that may differ between the seeds of one configuration.
SEED_SETTINGS = re.compile(
    r"seed|.*(?:run_id|path|dir|file|files|logfile|_id|rank|device|name|resume.*)$"
)
RECORD_SEEDS = 3
VALIDATION_DOCUMENTS = 50_000


def meter(records: Records) -> Finding:
    """METER: training, what follows its clock, and the evaluation that gives the score."""
    seen: dict[str, Any] = {}
    over: list[str] = []
    for log in records.logs:
        train, rest = log.train_s, charged_phases(log)
        if train is not None:
            spent = train + sum(seconds for _, seconds in rest.values())
            seen[log.name] = {
                "train_s": train,
                "after_the_clock": {w: {"line": n, "seconds": s} for w, (n, s) in rest.items()},
            }
            # The clock is read after a step: a run may end one step late.
            if spent > BUDGET_LIMIT_S + (log.step_ms or 0.0) / 1e3:
                over.append(_over_training(log, train, rest, spent))
        evaluate = _eval_seconds(log)
        if evaluate is not None:
            seen.setdefault(log.name, {})["evaluate_s"] = evaluate[1]
            if evaluate[1] > BUDGET_LIMIT_S:
                over.append(f"{log.name} line {evaluate[0]}: evaluation took {evaluate[1]:.1f} s")
    if over:
        more = f"; {len(over) - 1} more like it" if len(over) > 1 else ""
        said = f"{over[0]}, the limit is {BUDGET_LIMIT_S:.0f} s{more}."
        return Finding("METER", FAIL, said, seen | {"over": over})
    timed = [row for row in seen.values() if "train_s" in row]
    if not timed:
        return Finding(
            "METER", UNDECIDED, "No log says how long training took.", seen,
            not_checked=["seconds of training"],
        )  # fmt: skip
    missing = [] if all("evaluate_s" in r for r in seen.values()) else ["seconds of evaluation"]
    return Finding(
        "METER", PASS, "Training and evaluation stay within 600 s each, as far as logs tell.", seen,
        not_checked=[*missing, "seconds that no line of the log mentions"],
    )  # fmt: skip


def _over_training(log: Log, train: float, rest: dict[str, tuple[int, float]], spent: float) -> str:
    parts = [f"{train:.1f} s of training"]
    parts += [f"{seconds:.1f} s of {what} (line {line})" for what, (line, seconds) in rest.items()]
    return f"{log.name}: {' and '.join(parts)} are {spent:.1f} s"


def _eval_seconds(log: Log) -> tuple[int, float] | None:
    """Line and seconds of the evaluation that counts."""
    if log.total_eval is not None:
        return log.total_eval
    timed = [s for s in log.scores if s.eval_s is not None and not s.is_step]
    if not timed or timed[-1].eval_s is None:
        return None
    return timed[-1].line, timed[-1].eval_s


def seeds(records: Records) -> Finding:
    """SEEDS: the claimed mean and deviation by the seeds' own numbers, and no choice among runs."""
    values = _bpb_by_seed(records)
    claimed, claimed_std = records.claim("val_bpb", "mean_val_bpb"), records.claim("val_bpb_std")
    witness: dict[str, Any] = {
        "val_bpb": {str(k): v for k, v in values.items()},
        "claimed": claimed,
    }
    if not values:
        return Finding(
            "SEEDS", UNDECIDED, "There is no score by seed.", witness, not_checked=["statistics"]
        )
    numbers = list(values.values())
    mean = statistics.fmean(numbers)
    witness["mean"] = mean
    if len(numbers) > 1 and len(set(numbers)) < len(numbers):
        return Finding("SEEDS", FAIL, "Two seeds have the same score to the last digit.", witness)
    if isinstance(claimed, int | float) and claimed < mean - _half_digit(claimed) - 5e-6:
        chosen = abs(claimed - min(numbers)) <= _half_digit(claimed) + 1e-9
        what = "the best seed" if chosen else "less than the seeds give"
        return Finding(
            "SEEDS", FAIL, f"Claimed {claimed} is {what}: their mean is {mean:.5f}.", witness
        )
    extra = sorted({log.seed for log in records.logs if log.seed is not None} - set(values))
    if extra:
        witness["not_reported"] = extra
        return Finding(
            "SEEDS", UNDECIDED,
            f"There are logs of seeds that are not reported: {', '.join(map(str, extra))}.",
            witness,
        )  # fmt: skip
    if not _in_readme(records.readme, mean):
        return Finding(
            "SEEDS", UNDECIDED, f"README.md states no score that is the mean, {mean:.5f}.", witness
        )
    if len(numbers) < RECORD_SEEDS:
        return Finding(
            "SEEDS", UNDECIDED, f"{len(numbers)} seeds show no p < 0.01.", witness,
            not_checked=["significance"],
        )  # fmt: skip
    return Finding(
        "SEEDS", PASS, f"{len(numbers)} seeds, mean {mean:.5f}{_deviation(numbers, claimed_std)}.",
        witness | {"std": statistics.stdev(numbers), "claimed_std": claimed_std},
        not_checked=["runs that are not in the folder", "the test: pgolf compare --against"],
    )  # fmt: skip


def _in_readme(readme: str, mean: float) -> bool:
    """Whether a text states a mean, to three decimals or more; or states no score at all."""
    stated = re.findall(r"(?<![\d.])[0-4]\.\d{3,10}(?![\d.])", readme)
    return not stated or any(abs(float(word) - mean) <= _half_digit(word) + 5e-6 for word in stated)


def _bpb_by_seed(records: Records) -> dict[int, float]:
    """Claimed by seed; or by the logs, where nothing is claimed by seed."""
    rows = {
        seed: float(row["val_bpb"])
        for seed, row in records.seed_results.items()
        if isinstance(row.get("val_bpb"), int | float)
    }
    if rows:
        return rows
    finals = {log.seed: log.final.val_bpb for log in records.logs if log.seed and log.final}
    return {seed: value for seed, value in finals.items() if seed is not None}


def _deviation(numbers: list[float], claimed: Any) -> str:
    std = statistics.stdev(numbers)
    said = f", deviation {std:.5f}"
    if not isinstance(claimed, int | float) or abs(claimed - std) <= _half_digit(claimed) + 5e-6:
        return said
    population = statistics.pstdev(numbers)
    if abs(claimed - population) <= _half_digit(claimed) + 5e-6:
        return f"{said} (claimed {claimed}, which divides by n, not n - 1)"
    return f"{said} (claimed {claimed})"


def _half_digit(value: float | str) -> float:
    """Half a unit of the last digit that is written."""
    exponent = decimal.Decimal(str(value)).as_tuple().exponent
    return 0.5 * 10.0**exponent if isinstance(exponent, int) else 0.0


def provenance(records: Records) -> Finding:
    """PROV: each number stands in its log, and each log comes from the code that is here."""
    for check in (_number_without_a_log, _other_settings, _settings_not_in_code, _other_source):
        if (found := check(records)) is not None:
            return found
    unchecked = []
    if not any(log.source for log in records.logs):
        unchecked.append("code that ran: no log begins with its source")
    if not any(log.settings for log in records.logs):
        unchecked.append("settings: no log lists them")
    if not records.logs or not records.code:
        missing = " and ".join(
            name for name, there in (("logs", records.logs), ("code", records.code)) if not there
        )
        return Finding("PROV", UNDECIDED, f"The folder has no {missing}.", not_checked=unchecked)
    return Finding(
        "PROV", PASS, "The claimed numbers stand in the logs, and nothing shows other code.",
        {"code": {c.name: _sha(c.layers[0].text) for c in records.code}}, not_checked=unchecked,
    )  # fmt: skip


def disjoint(records: Records) -> Finding:
    """DISJOINT: a data script of the folder that leaves too few documents to validation."""
    for name, text in records.other_code.items():
        for number, line in enumerate(text.splitlines(), 1):
            found = re.search(r"val[-_]docs.*?default\s*=\s*([0-9_]+)", line)
            if found and int(found[1].replace("_", "") or 0) < VALIDATION_DOCUMENTS:
                return Finding(
                    "DISJOINT", UNDECIDED,
                    f"possibly training and validation documents overlap: {name} line {number} "
                    f"takes {found[1]} documents for validation by default, the text has "
                    f"{VALIDATION_DOCUMENTS:,}.",
                    {"file": name, "line": number, "documents": found[1]},
                    not_checked=["with which number of documents the shards were made"],
                )  # fmt: skip
    return Finding(
        "DISJOINT", UNDECIDED, "The training documents are not in the folder.",
        not_checked=["whether training and validation documents overlap"],
    )  # fmt: skip


def _number_without_a_log(records: Records) -> Finding | None:
    # A seed may have a log of training and one of evaluation.
    logs: dict[int, list[Log]] = {}
    for log in records.logs:
        if log.seed is not None:
            logs.setdefault(log.seed, []).append(log)
    claimed = records.submission.get("seeds")
    listed = {s for s in claimed if isinstance(s, int)} if isinstance(claimed, list) else set()
    absent = sorted((listed | set(records.seed_results)) - set(logs))
    if absent:
        return Finding(
            "PROV", FAIL, f"No log of seed {', '.join(map(str, absent))}, which is claimed.",
            {"claimed": sorted(listed | set(records.seed_results)), "logs": sorted(logs)},
        )  # fmt: skip
    for seed, row in records.seed_results.items():
        value = row.get("val_bpb")
        if not isinstance(value, int | float):
            continue
        written = [s.val_bpb for log in logs[seed] for s in log.scores]
        written += [v for log in logs[seed] for _, _, v in log.other_bpb]
        if not any(abs(v - value) <= _half_digit(value) + 1e-9 for v in written):
            nearest = min(written, key=lambda v: abs(v - value), default=None)
            return Finding(
                "PROV", FAIL, f"{value} of seed {seed} stands nowhere in {logs[seed][0].name}.",
                {"file": logs[seed][0].name, "claimed": value, "nearest": nearest},
            )  # fmt: skip
    return None


def _other_settings(records: Records) -> Finding | None:
    first: dict[int | None, Log] = {}
    for log in records.logs:
        if log.settings:
            first.setdefault(log.seed, log)
    logs = list(first.values())
    for log in logs[1:]:
        keys = sorted(set(log.settings) | set(logs[0].settings))
        for key in keys:
            one, other = logs[0].settings.get(key), log.settings.get(key)
            if one != other and not SEED_SETTINGS.fullmatch(key):
                return Finding(
                    "PROV", FAIL,
                    f"Mixed configurations: {key} is {one} in {logs[0].name} and {other} in "
                    f"{log.name}.",
                    {"key": key, logs[0].name: one, log.name: other},
                )  # fmt: skip
    return None


def _settings_not_in_code(records: Records) -> Finding | None:
    """A log lists a setting whose name the code does not know: other code ran."""
    if not records.code or any(code.problems for code in records.code):
        return None
    text = "\n".join(layer.text for _, layer in records.layers).lower()
    for log in records.logs:
        unknown = sorted(key for key in log.settings if key.lower() not in text)
        # The scripts print all of their class; a foreign block of settings knows nearly none.
        if unknown and len(unknown) <= len(log.settings) // 4:
            return Finding(
                "PROV", FAIL,
                f"{log.name} lists {unknown[0]}, which the code here does not have: other code "
                "ran.",
                {"file": log.name, "settings": unknown},
            )  # fmt: skip
    return None


def _other_source(records: Records) -> Finding | None:
    """A log begins with a source that is none of the shipped ones, packed or not."""
    if not records.code:
        return None
    shipped = {_sha(layer.text) for _, layer in records.layers}
    trees = {_shape(layer.tree) for _, layer in records.layers}
    for log in records.logs:
        if log.source is None or _sha(log.source) in shipped:
            continue
        code = Code("", 0, *unpack(log.source))
        if any(_shape(layer.tree) in trees - {""} for layer in code.layers):
            continue
        return Finding(
            "PROV", FAIL, f"{log.name} begins with a source that is not the code here.",
            {"file": log.name, "logged": _sha(log.source), "shipped": sorted(shipped)},
        )  # fmt: skip
    return None


def _sha(text: str) -> str:
    """Hash of a source, blind to line ends and to space at the ends of lines."""
    lines = [line.rstrip() for line in text.strip().splitlines()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _shape(tree: ast.Module | None) -> str:
    """Hash of what a source does, blind to comments and layout; "" where it cannot be had."""
    try:
        return hashlib.sha256(ast.dump(tree).encode()).hexdigest() if tree else ""
    except RecursionError:
        return ""
