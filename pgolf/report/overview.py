"""Runs as a table in the terminal: one line a run, with its loss as a sparkline."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pgolf.report import words
from pgolf.report.history import History
from pgolf.report.rows import state_of
from pgolf.report.table import print_trimmed

LEVELS, PLAIN_LEVELS = "▁▂▃▄▅▆▇█", "_.-=*#"
SPARK_CELLS = 12
WIDE = 110  # columns of a terminal
STYLES = {"finished": "", "running": "cyan", "stopped": "yellow", "broken": "red"}
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))

Summary = dict[str, Any]


def means(values: Sequence[float], cells: int = SPARK_CELLS) -> list[float]:
    """At most `cells` means of parts of equal length."""
    count = min(cells, len(values))
    cuts = [len(values) * cell // count for cell in range(count + 1)] if count else []
    return [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(cuts)]


def sparkline(values: Sequence[float], plain: bool = False) -> str:
    """A character a value, from lowest to highest; `plain`: ASCII only."""
    levels = PLAIN_LEVELS if plain else LEVELS
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    if high <= low:
        return levels[len(levels) // 2] * len(values)
    top = len(levels) - 1
    return "".join(levels[round((value - low) / (high - low) * top)] for value in values)


def loss_means(history: History) -> list[float]:
    """Training loss in `SPARK_CELLS` parts, without its steep beginning, which hides the rest."""
    losses = history.loss.columns[3]
    start = len(losses) // 20 if len(losses) >= 2 * SPARK_CELLS else 0
    return [round(value, 4) for value in means(losses[start:])]


def summary(history: History) -> Summary:
    """What the table shows of a run, as JSON values; None where it is not known."""
    result = history.result
    final = words.final_bpb(result) if result is not None else history.scores.get("final")
    reused = history.reused if result is None else set(result["reused"])
    seconds = history.seconds if result is None else result["seconds"]
    return {
        "run": history.folder.name,
        "folder": str(history.folder),
        "name": history.config.get("name") or history.folder.parent.name,
        "seed": history.config.get("seed") if result is None else result["seed"],
        "state": state_of(history),
        "broken": history.broken,
        "stage": history.stage,
        "step": int(history.loss.columns[0][-1]) if len(history.loss) else None,
        "loss": history.loss.columns[3][-1] if len(history.loss) else None,
        "losses": loss_means(history),
        "bpb": final,
        "eligible": None if result is None else result["eligibility"]["eligible"],
        "bytes": None if result is None else result["artifact"]["total_bytes"],
        "seconds": round(sum(v for stage, v in seconds.items() if stage not in reused), 3),
        "config_hash": history.group,
        "started": history.first_time or None,
    }


def print_runs(summaries: Sequence[Summary], to: Console) -> None:
    """Print a line a run; plain text where the console is no terminal."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    table.add_column("run", no_wrap=True)
    table.add_column("name", overflow="fold", ratio=1)
    for name in ("seed", "final BPB"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("eligible", no_wrap=True)
    for name in ("bytes", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    wide = to.width >= WIDE
    if wide:
        table.add_column("loss", no_wrap=True)
    table.add_column("last loss", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("age", justify="right", no_wrap=True)
    plain = to.options.ascii_only
    for row in summaries:
        eligible = {True: "yes", False: "no", None: "-"}[row["eligible"]]
        state = row["state"]
        if state == "running" and row["stage"]:
            state = f"running: {words.stage_label(row['stage'])}"
        table.add_row(
            Text(row["run"]),
            Text(str(row["name"])),
            "-" if row["seed"] is None else str(row["seed"]),
            "-" if row["bpb"] is None else words.bpb(row["bpb"]),
            eligible,
            "-" if row["bytes"] is None else f"{row['bytes']:,}",
            words.seconds(row["seconds"]),
            *([Text(sparkline(row["losses"], plain), style="cyan")] if wide else []),
            "" if row["loss"] is None else f"{row['loss']:.3f}",
            Text(state, style=STYLES[row["state"]]),
            age(row["started"]),
        )
    print_trimmed(Padding(table, (0, 1)), to)


def age(started: float | None) -> str:
    """How long ago, in one unit."""
    if started is None:
        return ""
    passed = max(0.0, time.time() - started)
    for size, unit in UNITS:
        if passed >= size:
            return f"{passed / size:.0f} {unit}"
    return f"{passed:.0f} s"
