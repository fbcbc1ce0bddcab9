"""A tokenizer's page: what it makes of a text, which pieces it uses, and what it loses."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from pgolf.files import atomic_writer, explain_os_error
from pgolf.report import sections, words
from pgolf.report.style import CSS

# Marks of what differs; the rest of the page has the style of a run's report.
OWN_CSS = """
td.piece { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
td.piece { white-space: pre-wrap; overflow-wrap: anywhere; }
"""


def write_tokenizer_report(path: Path, report: dict[str, Any]) -> None:
    """Write the page of what `pgolf.tokenizer.survey` found, with the keys tokenizer and file.

    Raises:
        UserError: the place cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, path) from error
    with atomic_writer(path, "w") as file:
        file.write(render(report))


def card(counts: dict[str, Any] | None) -> str:
    """The tokenizer's part of a run's report; nothing where the run did not see the text.

    Args:
        counts: documents, exact, bytes and tokens of the validation text.
    """
    if counts is None:
        return ""
    ratio = f"{counts['bytes'] / counts['tokens']:.4f}"
    body = (
        f'<p><span class="big">{ratio}</span> bytes of validation text per token</p>'
        f"<p>{counts['exact']:,} of {counts['documents']:,} validation documents are exactly what "
        "their tokens decode to.</p>"
    )
    return sections.card("Tokenizer", body, "whole")


def render(report: dict[str, Any]) -> str:
    """The whole page as text."""
    name = escape(report["tokenizer"])
    facts = [
        ("bytes of the documents", f"{report['bytes']:,}"),
        ("bytes that tokens stand for", f"{report['counted_bytes']:,}"),
        ("tokens", f"{report['tokens']:,}"),
        ("ids in use", f"{report['ids_in_use']:,} of {report['vocab_size']:,}"),
        ("tokens that are case controls", words.share(report["control_share"], 1)),
        ("tokens that are bytes of characters without a piece", f"{report['byte_share']:.4%}"),
        ("fingerprint", report["fingerprint"]),
    ]
    body = "".join([
        sections.card("", _headline(report), "whole"),
        sections.card("What was counted", sections.facts(facts), "whole"),
        sections.card("Documents that come back changed", _failures(report), "whole"),
        sections.card("Most frequent pieces", _pieces(report["frequent"])),
        sections.card("Longest pieces in use", _pieces(report["longest"])),
    ])  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>tokenizer {name}</title><style>{CSS}{OWN_CSS}</style></head><body><main>"
        f"<header><h1>Tokenizer {name}</h1>"
        f'<span class="facts">{report["vocab_size"]:,} ids</span>'
        f'<span class="facts">on {escape(report["file"])}</span></header>'
        f'<div class="grid">{body}</div></main></body></html>\n'
    )


def _headline(report: dict[str, Any]) -> str:
    exact, documents = report["exact"], report["documents"]
    good = " good" if exact == documents else ""
    return (
        '<div class="headline"><div>'
        f'<div class="score">{report["bytes_per_token"]:.4f}</div>'
        '<div>bytes per token</div></div><div class="verdict">'
        f'<span class="badge{good}">{exact:,} of {documents:,} documents come back exactly</span>'
        "</div></div>"
    )


def _failures(report: dict[str, Any]) -> str:
    if not report["failures"]:
        return '<p class="muted">None: every document is what its tokens decode to.</p>'
    rows = [
        f'<tr><td class="n">{row["document"]:,}</td><td class="n">{row["character"]:,}</td>'
        f'<td class="piece">{escape(row["text"])}</td>'
        f'<td class="piece">{escape(row["decoded"])}</td></tr>'
        for row in report["failures"]
    ]
    return (
        f'<p class="muted">The first {len(rows)} of {report["documents"] - report["exact"]:,}, '
        "each at the first character that differs.</p>"
        '<div class="scroll"><table><tr><th class="n">document</th><th class="n">character</th>'
        f"<th>text</th><th>what its tokens decode to</th></tr>{''.join(rows)}</table></div>"
    )


def _pieces(rows: list[dict[str, Any]]) -> str:
    body = "".join(
        f'<tr><td class="piece">{escape(row["piece"])}</td><td class="n">{row["chars"]:,}</td>'
        f'<td class="n">{row["count"]:,}</td><td class="n">{row["share"]:.3%}</td></tr>'
        for row in rows
    )
    return (
        '<div class="scroll"><table><tr><th>piece</th><th class="n">characters</th>'
        f'<th class="n">count</th><th class="n">share</th></tr>{body}</table></div>'
    )
