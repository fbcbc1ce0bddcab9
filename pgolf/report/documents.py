"""The final score by document on a run's page: its distribution, the worst and the best with text.

What is shown is an event of `pgolf.documents`. The text is anyone's: all of it is escaped here.
"""

from __future__ import annotations

from html import escape
from typing import Any

from pgolf.report import charts, svg, words
from pgolf.report.svg import Frame

ANCHOR = "documents"  # the comparison page links to it
LINE_CHARS = 120


def card(found: dict[str, Any] | None, final_bpb: float | None) -> str:
    """The section; nothing where the run did not say.

    Args:
        final_bpb: of all bytes together, marked in the chart.
    """
    if found is None:
        return ""
    body = f'<p class="muted">{_about(found)}</p>'
    if found["count"]:
        others = (("The one in the middle", "median"), ("The best", "best"))
        body += (
            f'<div class="halves"><div>{histogram(found, final_bpb)}'
            f'<p class="muted">{_quartiles(found)}</p>'
            f"{''.join(_listed(title, found[name]) for title, name in others)}</div>"
            f"<div>{_listed('The worst', found['worst'])}</div></div>"
        )
    return (
        f'<section class="card whole" id="{ANCHOR}"><h2>Bits per byte by document</h2>'
        f"{body}</section>"
    )


def _about(found: dict[str, Any]) -> str:
    about = (
        f"Bits per byte of {found['count']:,} documents of at least {found['min_bytes']} bytes, as "
        "the final evaluation scored them."
    )
    if found["short"]:
        ones = "one is" if found["short"] == 1 else "ones are"
        about += f" {found['short']:,} shorter {ones} left out."
    return about + (" Open one to read how it begins." if found["count"] else "")


def _quartiles(found: dict[str, Any]) -> str:
    low, middle, high = map(words.bpb, found["quartiles"])
    beyond = found["below"] + found["above"]
    outside = f" {beyond:,} lie outside the chart." if beyond else ""
    return f"Half of them lie between {low} and {high}, half above {middle}.{outside}"


def histogram(found: dict[str, Any], final_bpb: float | None) -> str:
    """Documents by BPB; a dashed line stands at the score of all bytes together."""
    edges, counts = found["edges"], found["counts"]

    def draw(width: int, height: int, css: str) -> str:
        frame = Frame(width, height, (edges[0], edges[-1]), (0.0, 1.08 * max(1, *counts)))
        parts = [svg.y_axis(frame, "documents"), svg.x_axis(frame, "bits per byte", 5)]
        parts += [
            svg.rectangle(
                frame,
                (low, high),
                count,
                f"{low:.3f} to {high:.3f} BPB: {count:,} documents",
                "bin",
            )
            for low, high, count in zip(edges, edges[1:], counts, strict=False)
            if count
        ]
        if final_bpb is not None and edges[0] <= final_bpb <= edges[-1]:
            parts.append(svg.upright(frame, final_bpb, f"all bytes: {words.bpb(final_bpb)}"))
        label = f"Documents by bits per byte, most at {_most(found):.3f}"
        return svg.drawing(frame, label, parts, css)

    return charts.both_sizes(draw)


def _most(found: dict[str, Any]) -> float:
    """The middle of the fullest bin."""
    place = found["counts"].index(max(found["counts"]))
    return float(found["edges"][place] + found["edges"][place + 1]) / 2


def _listed(title: str, rows: list[dict[str, Any]]) -> str:
    """A line for each document, and how it begins at a click or a key; nothing without rows."""
    return f"<h3>{title}</h3>{''.join(map(_document, rows))}" if rows else ""


def _document(row: dict[str, Any]) -> str:
    line = " ".join(row["text"].split())[:LINE_CHARS]
    figures = (
        f"<b>{words.bpb(row['bpb'])}</b><span>{row['bytes']:,} bytes</span>"
        f"<span>{row['tokens']:,} tokens</span><span>number {row['document'] + 1:,}</span>"
    )
    more = "..." if row["cut"] else ""
    # Text that runs from right to left must not turn the words around it.
    return (
        f'<details class="document"><summary>{figures}<bdi>{escape(line) or "white space"}</bdi>'
        f'</summary><pre dir="auto">{escape(row["text"])}{more}</pre></details>'
    )
