"""The auditor's findings: a table on the terminal, a card of the report, a page of their own."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pgolf.files import atomic_writer
from pgolf.report.style import CSS
from pgolf.report.table import print_trimmed

STYLES = {"PASS": "green", "FAIL": "bold red", "UNDECIDED": "yellow", "NOT_APPLICABLE": "dim"}
LABELS = {"PASS": "pass", "FAIL": "fail", "UNDECIDED": "undecided", "NOT_APPLICABLE": "no matter"}
VERDICTS = {"ELIGIBLE": "bold green", "NOT ELIGIBLE": "bold red", "UNDECIDED": "bold yellow"}


def print_audit(audit: dict[str, Any], console: Console) -> None:
    """Verdict, a row a probe, the witness of each failure, and what was not checked.

    Args:
        audit: content of audit.json.
    """
    heading = Text.assemble(
        (audit["verdict"], VERDICTS[audit["verdict"]]),
        f"  {audit['kind']} {audit['subject']}\n",
        (f"{audit['mode']} audit, {audit['cost_s']:.1f} s", "dim"),
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    table.add_column("probe", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("finding", overflow="fold")
    for finding in audit["findings"]:
        mark = finding["verdict"]
        table.add_row(
            finding["probe"],
            Text(LABELS[mark], style=STYLES[mark]),
            f"{finding['cost_s']:.2f}",
            Text(finding["summary"]),
        )
    console.print(heading, highlight=False, soft_wrap=True)
    print_trimmed(table, console)
    for finding in audit["findings"]:
        if finding["verdict"] == "FAIL":
            console.line()
            console.print(Text(f"{finding['probe']} witness", style="bold red"))
            for key, value in finding["witness"].items():
                console.print(Text(f"  {key}: {_plain(value)}"), soft_wrap=True)
    left = list(_not_checked(audit))
    if left:
        console.line()
        console.print(Text("not checked", style="dim"))
        for line in left:
            console.print(Text(f"  {line}"), soft_wrap=True)


def card(audit: dict[str, Any] | None) -> str:
    """The section of a run's report; empty where the run was not audited."""
    if audit is None:
        return ""
    good = " good" if audit["verdict"] == "ELIGIBLE" else ""
    rows = "".join(_row(finding) for finding in audit["findings"])
    left = "".join(f"<li>{escape(line)}</li>" for line in _not_checked(audit))
    return (
        '<section class="card whole"><h2>Audit</h2>'
        f'<p><span class="badge{good}">{escape(audit["verdict"].lower())}</span> '
        f'<span class="muted">{escape(audit["mode"])} audit, {audit["cost_s"]:.1f} s</span></p>'
        '<div class="scroll"><table><tr><th>probe</th><th>verdict</th><th>finding</th>'
        f'<th class="n">seconds</th></tr>{rows}</table></div>'
        f"{f'<p>Not checked:</p><ul>{left}</ul>' if left else ''}</section>"
    )


def write_audit_page(path: Path, audit: dict[str, Any]) -> None:
    """A page of the findings alone, which needs no network and no other file."""
    title = escape(f"audit of {audit['subject']}")
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{CSS}</style></head><body><main>"
        f"<header><h1>{title}</h1></header>"
        f'<div class="grid">{card(audit)}</div></main></body></html>\n'
    )
    with atomic_writer(path, "w") as file:
        file.write(page)


def _row(finding: dict[str, Any]) -> str:
    """A finding with its witness under it, open where it is a failure."""
    mark = finding["verdict"]
    witness = "".join(
        f"<tr><td>{escape(key)}</td><td>{escape(_plain(value))}</td></tr>"
        for key, value in finding["witness"].items()
    )
    detail = ""
    if witness:
        is_open = " open" if mark == "FAIL" else ""
        detail = (
            f"<details{is_open}><summary>witness</summary>"
            f'<table class="facts">{witness}</table></details>'
        )
    css = ' class="over"' if mark == "FAIL" else ""
    return (
        f"<tr><td>{escape(finding['probe'])}</td><td{css}>{escape(LABELS[mark])}</td>"
        f'<td>{escape(finding["summary"])}{detail}</td><td class="n">{finding["cost_s"]:.2f}</td>'
        "</tr>"
    )


def _not_checked(audit: dict[str, Any]) -> list[str]:
    return [
        f"{finding['probe']}: {line}"
        for finding in audit["findings"]
        for line in dict.fromkeys(finding["not_checked"])
    ]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
