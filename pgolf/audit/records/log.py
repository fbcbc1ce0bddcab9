"""A training log as the published scripts write it: scores, sizes, seconds, settings and source.

Both spellings of a line are known (`val_loss:2.06`, `val_loss: 2.06`, `val_loss=2.06`), and logs
that were cut, pasted or mixed with a launcher's messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

NUMBER = r"([0-9][0-9,]*\.?[0-9]*(?:[eE][-+]?[0-9]+)?)"
MAX_LINE = 4000

_SCORE = re.compile(
    r"(?P<name>.*?)\bval_loss\s*[:=]\s*" + NUMBER + r"[\s,]+val_bpb\s*[:=]\s*" + NUMBER, re.I
)
_ANY_BPB = re.compile(r"\b([a-z0-9_]*bpb)\s*[:=]\s*" + NUMBER, re.I)
_EVAL_TIME = re.compile(r"\beval_time\s*[:=]\s*" + NUMBER + r"\s*(ms|s)\b")
_TOTAL_EVAL = re.compile(r"\btotal_eval_time\s*[:=]\s*" + NUMBER + r"\s*(ms|s)\b")
_STEP = re.compile(r"(?:^|\b)(?:step\s*[:=]?\s*)?(\d+)/(\d+)\b")
_TRAIN_TIME = re.compile(r"\btrain_time\s*[:=]\s*" + NUMBER + r"\s*(ms|s|m)\b")
_STEP_AVG = re.compile(r"\bstep_avg\s*[:=]\s*" + NUMBER + r"\s*ms")
_BYTES = re.compile(r"^(?P<what>.*?)\s*[:=]\s*" + NUMBER + r"\s*bytes\b", re.I)
_VAL_TOKENS = re.compile(r"\b(?:val_tokens|val_loader:.*\btokens|target_tokens)\s*[:=]\s*" + NUMBER)
_COUNTED = re.compile(r"\btokens\s*[:=]\s*" + NUMBER + r"\s+bytes\s*[:=]\s*" + NUMBER)
_SEED = re.compile(r"(?:^|\s)seed\s*[:=]\s*(\d+)\b")
_SETTING = re.compile(r"^\s{2,}([A-Za-z_]\w*)\s*:\s(.*)$")
# The first scripts have no block of settings, but lines of several before training begins.
_SETTINGS = re.compile(r"[a-z_]\w*:\S+(?:\s+[a-z_]\w*:\S+)+")
_RULE = re.compile(r"^[=\-#*]{20,}\s*$")
_SECONDS = re.compile(r"(?:\bin|elapsed\s*[:=]|time\s*[:=]|took)\s*" + NUMBER + r"\s*(ms|s)\b")
_CAP = re.compile(r"max_wallclock_seconds\s*[:=]\s*" + NUMBER)
_RESERVE = re.compile(r"reserv\w*\s+" + NUMBER + r"\s*s\b", re.I)

# Work after the training clock has stopped that the rules charge to training, and its log lines.
UNCHARGED = {
    "test-time training before scoring": re.compile(r"pre_?quant_?ttt", re.I),
    "Hessians and calibration": re.compile(r"hessian|calibrat", re.I),
    "n-gram tables": re.compile(r"n_?gram.*(?:built|precomput|prepass|table|hints)", re.I),
}


@dataclass(frozen=True)
class Scored:
    """A line with a loss (nats per token) and a BPB, as written.

    Args:
        name: what stands before the loss, e.g. "quantized_sliding_window".
        line: number, from 1.
        digits: decimals of the BPB: how exact a ratio can be.
        eval_s: seconds of that evaluation, None where not said.
    """

    name: str
    line: int
    val_loss: float
    val_bpb: float
    digits: int
    eval_s: float | None = None

    @property
    def is_step(self) -> bool:
        """A line of the training loop, not of an evaluation at the end."""
        return bool(_STEP.search(self.name))


@dataclass
class Log:
    """What one log says; None and empty where it says nothing.

    Args:
        scores: in order.
        other_bpb: (line, name, value) of BPB without a loss beside it.
        sizes: (line, what, bytes).
        train_s, steps, step_ms: where training stopped.
        stop_line: line at which it did.
        phases: (line, what, seconds) after training that the published clock leaves out.
        reserve_s: seconds that the training clock kept for quantization.
        counted: (line, tokens, bytes) where a scorer says both.
        settings: of the block of hyperparameters.
        source: text of the script, where the log begins with it.
    """

    name: str
    seed: int | None = None
    scores: list[Scored] = field(default_factory=list)
    other_bpb: list[tuple[int, str, float]] = field(default_factory=list)
    sizes: list[tuple[int, str, int]] = field(default_factory=list)
    train_s: float | None = None
    steps: int | None = None
    step_ms: float | None = None
    stop_line: int | None = None
    cap_s: float | None = None
    total_eval: tuple[int, float] | None = None
    phases: list[tuple[int, str, float]] = field(default_factory=list)
    reserve_s: float = 0.0
    val_tokens: int | None = None
    counted: list[tuple[int, int, int]] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    source: str | None = None
    lines: int = 0

    def size(self, *patterns: str) -> int | None:
        """Bytes of the last line whose words match all patterns and that is not "uncompressed"."""
        for _, what, value in reversed(self.sizes):
            if all(re.search(pattern, what, re.I) for pattern in patterns):
                return value
        return None

    @property
    def final(self) -> Scored | None:
        """The last score at full precision that is no diagnostic of the training loop."""
        ends = [s for s in self.scores if not s.is_step and "diagnostic" not in s.name.lower()]
        exact = [s for s in ends if s.digits >= 6]
        found = exact or ends or self.scores
        return found[-1] if found else None


def parse_log(text: str, name: str) -> Log:
    """Read a log; a line that says nothing known is passed over."""
    log = Log(name)
    lines = text.splitlines()
    log.lines = len(lines)
    log.source, first = _source(lines)
    for number, line in enumerate(lines[first:], first + 1):
        _read_line(log, number, line[:MAX_LINE])
    if log.seed is None and log.settings.get("seed", "").isdigit():
        log.seed = int(log.settings["seed"])
    if log.seed is None and (found := re.search(r"seed_?(\d+)", name)):
        log.seed = int(found[1])
    if "max_wallclock_seconds" in log.settings and log.cap_s is None:
        log.cap_s = _float(log.settings["max_wallclock_seconds"])
    return log


def _source(lines: list[str]) -> tuple[str | None, int]:
    """The script that a log begins with, and the first line after it."""
    start = next((i for i, line in enumerate(lines[:400]) if _begins_source(line)), None)
    if start is None:
        return None, 0
    for end in range(start + 1, len(lines)):
        # The scripts end their source with a full line of "="; inside it, that would be a comment.
        if len(lines[end].strip()) >= 80 and set(lines[end].strip()) == {"="}:
            text = "\n".join(lines[start:end])
            is_code = len(re.findall(r"^\s*(?:import|from|def|exec)\b", text, re.M)) > 0
            return (text, end + 1) if is_code else (None, 0)
    return None, 0


def _begins_source(line: str) -> bool:
    return bool(
        re.match(r'(?:"""|\'\'\'|from __future__|import \w|from \w+[\w.]* import |#!)', line)
    )


def _read_line(log: Log, number: int, line: str) -> None:
    if setting := _SETTING.match(line):
        log.settings.setdefault(setting[1], setting[2].strip())
        return
    if log.steps is None and not _STEP.search(line) and _SETTINGS.fullmatch(line.strip()):
        for word in line.split():
            log.settings.setdefault(*word.split(":", 1))
    _read_scores(log, number, line)
    _read_seconds(log, number, line)
    if size := _BYTES.match(line):
        log.sizes.append((number, size["what"].strip(), int(_float(size[2]))))
    if tokens := _VAL_TOKENS.search(line):
        log.val_tokens = int(_float(tokens[1]))
    if counted := _COUNTED.search(line):
        log.counted.append((number, int(_float(counted[1])), int(_float(counted[2]))))
    if log.seed is None and (seed := _SEED.search(line)):
        log.seed = int(seed[1])


def _read_scores(log: Log, number: int, line: str) -> None:
    if found := _SCORE.search(line):
        loss, bpb = _float(found[2]), _float(found[3])
        if loss > 0 and bpb > 0:
            digits = len(found[3].partition(".")[2])
            log.scores.append(
                Scored(
                    found["name"].strip(" :"), number, loss, bpb, digits, _span(_EVAL_TIME, line)
                )
            )
    elif found := _ANY_BPB.search(line):
        log.other_bpb.append((number, found[1], _float(found[2])))


def _read_seconds(log: Log, number: int, line: str) -> None:
    step = _STEP.search(line)
    if step and (spent := _span(_TRAIN_TIME, line)) is not None:
        stops = "stopping_early" in line
        if stops or log.stop_line is None:
            log.train_s, log.steps = spent, int(step[1])
            log.stop_line = number if stops else log.stop_line
        if average := _STEP_AVG.search(line):
            log.step_ms = _float(average[1])
    if cap := _CAP.search(line):
        log.cap_s = _float(cap[1])
    if total := _span(_TOTAL_EVAL, line):
        log.total_eval = (number, total)
    if "gptq" in line.lower() and (kept := _RESERVE.search(line)):
        log.reserve_s = _float(kept[1])
        return
    for what, pattern in UNCHARGED.items():
        if pattern.search(line) and (seconds := _span(_SECONDS, line)) is not None:
            log.phases.append((number, what, seconds))


def charged_phases(log: Log) -> dict[str, tuple[int, float]]:
    """The longest time given for each uncharged phase, by name: (line, seconds).

    A phase's lines give its running time; those before training stopped lie within its clock.
    """
    longest: dict[str, tuple[int, float]] = {}
    for line, what, seconds in log.phases:
        inside = log.stop_line is not None and line < log.stop_line
        if not inside and seconds > longest.get(what, (0, -1.0))[1]:
            longest[what] = (line, seconds)
    return longest


def _span(pattern: re.Pattern[str], line: str) -> float | None:
    """Seconds of a duration; None where the line has none."""
    found = pattern.search(line)
    if found is None:
        return None
    return _float(found[1]) * {"ms": 1e-3, "s": 1.0, "m": 60.0}[found[2]]


def _float(text: str) -> float:
    try:
        return float(text.replace(",", "").rstrip("."))
    except ValueError:
        return 0.0


def bytes_per_token(scores: Iterable[Scored]) -> list[tuple[Scored, float, float]]:
    """Implied raw bytes of a token by each score, and the relative error of its rounding."""
    rows = []
    for score in scores:
        ratio = score.val_loss / 0.6931471805599453 / score.val_bpb
        error = 0.5 * 10.0**-score.digits * (1 / score.val_bpb + 1 / score.val_loss)
        rows.append((score, ratio, error))
    return rows
