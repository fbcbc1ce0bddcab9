"""Bytes by tensor: the rows of `pgolf.census` for people, in a terminal and on a run's page."""

from __future__ import annotations

from html import escape
from typing import Any

from pgolf.report import sections

SHOWN = ("tensor", "shape", "bits", "raw", "entropy", "encoded", "of limit")  # in bytes


def cells(row: dict[str, Any]) -> list[str | int]:
    """What is shown of a row, in the order of `SHOWN`."""
    return [
        row["name"],
        " x ".join(map(str, row["shape"])),
        row["bits"],
        row["raw_bytes"],
        "" if row["entropy_bytes"] is None else row["entropy_bytes"],
        row["encoded_bytes"],
        f"{row['share_of_limit']:.3%}",
    ]


def card(rows: list[dict[str, Any]] | None) -> str:
    """The table, closed until it is asked for; nothing where the run did not say."""
    if not rows:
        return ""
    total = {
        "name": f"all {len(rows)}",
        "shape": [],
        "bits": "",
        "entropy_bytes": sum(row["entropy_bytes"] or 0 for row in rows),
        **{key: sum(row[key] for row in rows) for key in ("raw_bytes", "encoded_bytes")},
        "share_of_limit": sum(row["share_of_limit"] for row in rows),
    }
    head = "".join(f"<th{_align(index)}>{escape(name)}</th>" for index, name in enumerate(SHOWN))
    body = "".join(_row(row) for row in rows) + _row(total, ' class="final"')
    table = f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'
    note = (
        '<p class="muted">In bytes. Raw: codes packed to their bits, and scales. Entropy: of the '
        "codes, order 0. Encoded: a share by entropy where tensors are encoded together.</p>"
    )
    return sections.folded("Bytes by tensor", note + table)


def _align(index: int) -> str:
    return ' class="n"' if index > 1 else ""


def _row(row: dict[str, Any], css: str = "") -> str:
    shown = "".join(
        f"<td{_align(index)}>{f'{cell:,}' if isinstance(cell, int) else escape(str(cell))}</td>"
        for index, cell in enumerate(cells(row))
    )
    return f"<tr{css}>{shown}</tr>"
