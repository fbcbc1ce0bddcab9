"""How answers are shown to people: lines of `name value`, or a table."""

from __future__ import annotations

from typing import Any

Answer = dict[str, Any]


def show_lines(answer: Answer) -> None:
    """A line a key."""
    width = max(len(key) for key in answer) + 2
    for key, value in answer.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {item}" for name, item in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value)) or "none"
        elif isinstance(value, int) and not isinstance(value, bool):
            value = f"{value:,}"
        elif isinstance(value, float):
            value = f"{value:.7g}"
        print(f"{key:<{width}}{value}")


def show_table(rows: list[Answer]) -> None:
    """Rows with the same keys, and a blank line after them."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pgolf.report.table import print_trimmed

    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for key in rows[0]:
        words = all(isinstance(row[key], str) for row in rows)
        table.add_column(key, justify="left" if words else "right")
    for row in rows:
        # As text: a name may have brackets, which would be markup.
        cells = (Text(f"{v:,}" if isinstance(v, int) else str(v)) for v in row.values())
        table.add_row(*cells)
    console = Console()
    if not console.is_terminal:
        console.width = 200  # in a file, nothing need be cut short
    print_trimmed(table, console)
    print()
