"""The table that a sweep ends with: its jobs, means over seeds, and the jobs that failed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pgolf.report import words
from pgolf.report.overview import WIDE, sparkline
from pgolf.report.table import print_trimmed
from pgolf.report.texts import distinct_texts

Result = dict[str, Any]


def print_sweep(
    results: Sequence[Result],
    failed: Sequence[tuple[str, str]],
    console: Console,
    losses: Sequence[Sequence[float]] | None = None,
    *,
    title: str = "sweep",
    noun: str = "jobs",
) -> None:
    """Print the jobs of a multirun, or runs that are looked at side by side.

    Args:
        results: checked results of the jobs that finished, in order.
        failed: `(overrides, reason)` of each job that did not.
        losses: a few means of the training loss of each result, drawn as a sparkline.
        title, noun: what they are together, and each of them.
    """
    parts: list[RenderableType] = [_heading(results, failed, title, noun)]
    if results:
        parts.append(_jobs(results, losses, console))
        groups = by_configuration(results)
        if any(len(newest_of_seeds(group)) > 1 for group in groups.values()):
            parts.append(_means(groups, varying(results)))
    texts = distinct_texts(results)
    if len(texts) > 1:
        sizes = "; ".join(f"{size:,}" for size in texts)
        warning = f"scored on different texts ({sizes} bytes): do not compare their bits per byte"
        parts.append(Text(warning, style="yellow"))
    if failed:
        parts.append(_failures(failed))
    spaced = [item for part in parts for item in (Text(""), part)]
    print_trimmed(Padding(Group(*spaced), (0, 1)), console)


def varying(results: Sequence[Result]) -> set[str]:
    """The overrides, as written, that not all jobs share."""
    common = set.intersection(*(set(result["overrides"]) for result in results))
    return {item for result in results for item in result["overrides"]} - common


def by_configuration(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Results that differ in their seed at most, by hash of their configuration."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result["config_hash"], []).append(result)
    return groups


def newest_of_seeds(group: Sequence[Result]) -> list[Result]:
    """Of one configuration's results, one a seed: the same run again is no second sample."""
    return list({r["seed"]: r for r in sorted(group, key=lambda r: r["run_id"])}.values())


def _heading(
    results: Sequence[Result], failed: Sequence[tuple[str, str]], title: str, noun: str
) -> Text:
    text = Text(title, style="bold")
    text.append(
        f"  {len(results)} of {len(results) + len(failed)} {noun} finished", style="default"
    )
    if failed:
        text.append(f", {len(failed)} failed", style="bold red")
    return text


def _label(result: Result, shown: set[str]) -> str:
    """What sets a configuration apart from the sweep's others; the seed has its own column."""
    parts = [p for p in result["overrides"] if p in shown and not p.startswith("seed=")]
    return " ".join(parts) or result["name"]


def _table() -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    table.add_column("configuration", overflow="fold", ratio=1)
    return table


def _jobs(
    results: Sequence[Result], losses: Sequence[Sequence[float]] | None, console: Console
) -> Table:
    table, shown = _table(), varying(results)
    for name in ("seed", "final BPB"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("eligible", no_wrap=True)
    for name in ("bytes", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    # What follows is for the eye: where the columns are few, the names need them.
    sparks = [[_stages(result)] for result in results]
    names, plain = ["stages"], console.options.ascii_only
    if losses is not None:
        names, sparks = [*names, "loss"], [[*s, c] for s, c in zip(sparks, losses, strict=True)]
    if console.width < WIDE:
        names, sparks = [], [[] for _ in results]
    for name in names:
        table.add_column(name, no_wrap=True)
    table.add_column("reused", overflow="fold", max_width=15)
    for result, curves in zip(results, sparks, strict=True):
        final = words.final_bpb(result)
        reused = set(result["reused"])
        spent = sum(s for stage, s in result["seconds"].items() if stage not in reused)
        table.add_row(
            Text(_label(result, shown)),
            str(result["seed"]),
            "-" if final is None else words.bpb(final),
            "yes" if result["eligibility"]["eligible"] else "no",
            f"{result['artifact']['total_bytes']:,}",
            words.seconds(spent),
            *(Text(sparkline(values, plain), style="cyan") for values in curves),
            _reused(result),
        )
    return table


def _stages(result: Result) -> Sequence[float]:
    """BPB of the scores in their order."""
    return [score["bpb"] for score in result["bpb"].values() if score is not None]


def _reused(result: Result) -> str:
    """The stages that cost something and came from the cache."""
    main = [s for s in result["reused"] if not s.startswith("score_")]
    return ", ".join(main)


def _means(groups: dict[str, list[Result]], shown: set[str]) -> Table:
    table = _table()
    for name in ("seeds", "mean BPB", "std", "lowest", "highest"):
        table.add_column(name, justify="right", no_wrap=True)
    for group in groups.values():
        finals = [words.final_bpb(result) for result in newest_of_seeds(group)]
        values = [value for value in finals if value is not None]
        if not values:
            continue
        # Of one run there is no spread to state.
        spread = f"{statistics.stdev(values):.5f}" if len(values) > 1 else "-"
        table.add_row(
            Text(_label(group[0], shown)),
            str(len(values)),
            f"{statistics.fmean(values):.5f}",
            spread,
            words.bpb(min(values)),
            words.bpb(max(values)),
        )
    return table


def _failures(failed: Sequence[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for overrides, reason in failed:
        grid.add_row(Text("failed", style="bold red"), Text(overrides, style="bold"))
        grid.add_row("", Text(reason))
    return grid
