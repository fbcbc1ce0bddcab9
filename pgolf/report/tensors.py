"""Bytes and loss by tensor: rows of `pgolf.census` for people, in a terminal and on a page."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from pgolf.report import sections

# In bytes from "raw" on.
SHOWN = ("tensor", "shape", "kind", "bits", "with scales", "raw", "entropy", "encoded", "of limit")
LOSS = "loss"  # of quantizers that measure it


def heads(rows: list[dict[str, Any]]) -> list[str]:
    """Names of the columns."""
    return [*SHOWN, LOSS] if any(row.get("loss") is not None for row in rows) else [*SHOWN]


def cells(row: dict[str, Any]) -> list[str | int]:
    """What is shown of a row, in the order of `SHOWN`, and its loss."""
    loss = row.get("loss")
    elements = row.get("elements", math.prod(row["shape"]))
    return [
        row["name"],
        " x ".join(map(str, row["shape"])),
        row["kind"],
        row["bits"],
        f"{8 * row['raw_bytes'] / elements:.2f}" if elements else "",
        row["raw_bytes"],
        "" if row["entropy_bytes"] is None else row["entropy_bytes"],
        row["encoded_bytes"],
        f"{row['share_of_limit']:.3%}",
        "" if loss is None else f"{loss:.6f}",
    ]


def card(rows: list[dict[str, Any]] | None) -> str:
    """The table, closed until it is asked for; nothing where the run did not say."""
    if not rows:
        return ""
    total = {
        "name": f"all {len(rows)}",
        "shape": [],
        "kind": "",
        "bits": "",
        "elements": sum(math.prod(row["shape"]) for row in rows),
        "entropy_bytes": sum(row["entropy_bytes"] or 0 for row in rows),
        **{key: sum(row[key] for row in rows) for key in ("raw_bytes", "encoded_bytes")},
        "share_of_limit": sum(row["share_of_limit"] for row in rows),
        "loss": sum(row.get("loss") or 0.0 for row in rows),
    }
    names = heads(rows)
    head = "".join(f"<th{_align(index)}>{escape(name)}</th>" for index, name in enumerate(names))
    width = len(names)
    body = "".join(_row(row, width) for row in rows) + _row(total, width, ' class="final"')
    table = f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'
    note = (
        '<p class="muted">Kind: codes, or states of their trellis; scales of groups, of columns; '
        "correction. With scales: bits a weight of all that is raw. In bytes, raw: codes packed to "
        "their bits, and scales; entropy: of the codes, order 0; encoded: a share by entropy where "
        "tensors are encoded together. Loss, where it was measured: nats a token that the codes of "
        "a tensor add.</p>"
    )
    return sections.folded("Bytes by tensor", note + table)


def _align(index: int) -> str:
    return ' class="n"' if index > 2 else ""


def _row(row: dict[str, Any], width: int, css: str = "") -> str:
    shown = "".join(
        f"<td{_align(index)}>{f'{cell:,}' if isinstance(cell, int) else escape(str(cell))}</td>"
        for index, cell in enumerate(cells(row)[:width])
    )
    return f"<tr{css}>{shown}</tr>"
