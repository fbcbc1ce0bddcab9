"""The table that a run ends with: scores, bytes, seconds, eligibility, and where things lie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pgolf.report import words
from pgolf.result import control_label

BAR_CELLS = 24
FILES = ("result.json", "report.html", "log.txt", "artifact")


def print_result(result: dict[str, Any], console: Console, run_folder: Path | None = None) -> None:
    """Print a result; plain text where the console is no terminal.

    Args:
        result: a checked result (`pgolf.result.validate_result`).
        run_folder: where result.json, log and report lie; their paths end the table.
    """
    parts: list[RenderableType] = [
        _heading(result),
        _scores(result),
        *_control(result),
        _artifact(result["artifact"], console),
        _seconds(result),
        _eligibility(result),
    ]
    spaced = [item for part in parts for item in (Text(""), part)]
    print_trimmed(Padding(Group(*spaced), (0, 1)), console)
    if run_folder is not None:
        console.line()
        for line in _paths(run_folder):
            console.print(line, soft_wrap=True, highlight=False)


def print_trimmed(content: RenderableType, console: Console) -> None:
    """Print without the blanks that rich pads lines with, which spoil logs and copied text."""
    with console.capture() as captured:
        console.print(content, highlight=False)
    lines = (line.rstrip() for line in captured.get().splitlines())
    console.file.write("\n".join(lines) + "\n")
    console.file.flush()


def _heading(result: dict[str, Any]) -> Text:
    text = Text()
    text.append(f"{result['name']}", style="bold")
    text.append(f"  seed {result['seed']}  run {result['run_id']}\n")
    final = words.final_bpb(result)
    score = "no final score" if final is None else f"{words.bpb(final)} bits per byte"
    good = result["eligibility"]["eligible"]
    text.append(score, style="bold")
    text.append("  ")
    text.append(words.verdict(result), style="bold green" if good else "bold yellow")
    return text


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)


def _scores(result: dict[str, Any]) -> Table:
    table = _table()
    table.add_column("score", no_wrap=True)
    for name in ("BPB", "change", "nats", "tokens", "bytes"):
        table.add_column(name, justify="right", no_wrap=True)
    before: float | None = None
    for name, score in result["bpb"].items():
        label = words.SCORE_LABELS[name]
        if score is None:
            table.add_row(label, "-", "", "", "", "", style="dim")
            continue
        table.add_row(
            label,
            words.bpb(score["bpb"]),
            words.change(score["bpb"], before),
            f"{score['nats']:,.1f}",
            f"{score['tokens']:,}",
            f"{score['bytes']:,}",
            style="bold" if name == "final" else "",
        )
        before = score["bpb"]
    return table


def _control(result: dict[str, Any]) -> Iterator[Text]:
    if result["control"] is not None:
        value = words.bpb(result["control"]["bpb"])
        label = f" ({control_label(result)})"
        yield Text.assemble("For comparison: ", (f"{value} BPB", "bold"), label)


def _artifact(artifact: dict[str, int], console: Console) -> Text:
    total, limit = artifact["total_bytes"], artifact["limit"]
    filled = min(BAR_CELLS, max(1, round(BAR_CELLS * total / limit)))
    full, empty = ("#", ".") if console.options.ascii_only else ("█", "░")
    style = "red" if total > limit else "cyan"
    text = Text.assemble("artifact  ", (f"{total:,}", "bold"), f" of {limit:,} bytes  ")
    text.append(full * filled, style=style)
    text.append(empty * (BAR_CELLS - filled), style="dim")
    text.append(f" {words.share(total, limit)}\n")
    text.append(f"          model {artifact['model_bytes']:,}, code {artifact['code_bytes']:,}")
    return text


def _seconds(result: dict[str, Any]) -> Table:
    table = _table()
    table.add_column("budget", no_wrap=True)
    table.add_column("stage", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("of limit", justify="right", no_wrap=True)
    table.add_column("")
    for budget in result["budgets"]:
        limit, charged = budget["limit_s"], budget["charged_s"]
        over = limit is not None and charged > limit
        of_limit = "no limit" if limit is None else f"{limit:,.0f}"
        table.add_row(
            budget["name"], "", words.seconds(charged), of_limit, "over the limit" if over else "",
            style="bold red" if over else "bold",
        )  # fmt: skip
        for stage in budget["what"]:
            note = "reused" if stage in result["reused"] else ""
            seconds = words.seconds(result["seconds"][stage])
            table.add_row("", words.stage_label(stage), seconds, "", note)
    return table


def _eligibility(result: dict[str, Any]) -> Table:
    eligibility, held = result["eligibility"], words.held(result)
    good = eligibility["eligible"]
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    mark, style = ("eligible", "bold green") if good else ("not eligible", "bold yellow")
    grid.add_row(Text(mark, style=style), Text(f"track {eligibility['track']}"))
    for sentence in eligibility["reasons"]:
        grid.add_row(Text("because", style="dim"), Text(sentence))
    for sentence in eligibility["notes"]:
        grid.add_row(Text("note", style="dim"), Text(sentence))
    if held is not None:
        grid.add_row(Text("evaluation", style="dim"), Text(held))
    return grid


def _paths(run_folder: Path) -> Iterator[Text]:
    """A line for each file; never wrapped, since a broken path cannot be copied."""
    for name in FILES:
        if (run_folder / name).exists():
            yield Text.assemble((f" {name.partition('.')[0]:<9}", "dim"), str(run_folder / name))
