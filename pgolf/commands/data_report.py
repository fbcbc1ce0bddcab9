"""`pgolf data report FILE tokenizer=NAME`: what a tokenizer makes of a text, and what it loses.

The tokenizer is chosen as in `pgolf data roundtrip`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pgolf.commands.data_roundtrip import FILE_HELP, OVERRIDES_HELP, tracked_documents
from pgolf.commands.naming import option_name, ready_tokenizer
from pgolf.commands.output import Answer, show_lines, show_table

HELP = "what a tokenizer makes of a text, and what it loses"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument("file", type=Path, help=FILE_HELP)
    parser.add_argument("--html", type=Path, metavar="PATH", help="write a page as well")
    parser.add_argument("overrides", nargs="*", help=OVERRIDES_HELP)


def run(options: argparse.Namespace) -> Answer:
    """Counts, shares, pieces and failures; see pgolf.tokenizer.survey."""
    from pgolf.report.tokenizer import write_tokenizer_report
    from pgolf.tokenizer.survey import survey

    tokenizer = ready_tokenizer(options.overrides)
    report = {
        "tokenizer": option_name(tokenizer),
        "file": str(options.file),
        **survey(tokenizer, tracked_documents(options.file, "report")),
    }
    if options.html is not None:
        write_tokenizer_report(options.html, report)
        report["html"] = str(options.html)
    return report


def show(answer: Answer) -> None:
    """A line a figure, then tables of pieces, then where documents come back changed."""
    from rich.markup import escape

    tables = ("frequent", "longest", "failures")
    show_lines({key: _short(value) for key, value in answer.items() if key not in tables})
    print()
    for key in tables:
        if answer[key]:
            print("changed documents" if key == "failures" else f"{key} pieces")
            show_table([
                {name: escape(str(_short(value))) for name, value in row.items()}
                for row in answer[key]
            ])  # fmt: skip


def _short(value: object) -> object:
    return f"{value:.5f}" if isinstance(value, float) else value
