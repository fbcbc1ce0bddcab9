"""`pgolf audit RUN|ARTIFACT|RECORDS|FILE.py:CLASS`: is a score valid? A witness for what is not.

Exit code 0: eligible, 3: not eligible, 4: undecided. A run gets audit.json and audit.html.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pgolf.commands.output import Answer

HELP = "is a score valid: bytes, causality, order, seconds, record"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument("path", type=Path, metavar="RUN|ARTIFACT|RECORDS|FILE.py:CLASS")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--full", dest="mode", action="store_const", const="full", help="the default")
    how.add_argument("--quick", dest="mode", action="store_const", const="quick", help="seconds")
    how.add_argument(
        "--as-configured", dest="mode", action="store_const", const="", help="as the run was"
    )
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="prepared shards, where those of the run moved"
    )
    parser.set_defaults(mode="full")


def run(options: argparse.Namespace) -> Answer:
    """The content of audit.json."""
    from pgolf.audit.finding import Verdict
    from pgolf.audit.records.audit import audit_records_folder, is_records_folder

    if is_records_folder(options.path):
        findings = audit_records_folder(options.path)
        return Verdict(str(options.path), "records", options.mode, findings).as_dict()
    from pgolf.auditing.scorer_file import audit_scorer, scorer_of

    if (scorer := scorer_of(options.path)) is not None:
        return audit_scorer(*scorer, options.mode or "full", options.data).as_dict()
    from pgolf.auditing.runs import audit
    from pgolf.pipeline import evaluate_again

    path: Path = options.path
    verdict = audit(
        path, options.mode, options.data, rescore=lambda: evaluate_again(path, [])
    )  # fmt: skip
    return verdict.as_dict()


def show(answer: Answer) -> None:
    """The table of findings."""
    from rich.console import Console

    from pgolf.report.audit import print_audit

    print_audit(answer, Console())


def exit_code(answer: Answer) -> int:
    """By the verdict."""
    from pgolf.audit.finding import EXIT_CODES

    return EXIT_CODES[answer["verdict"]]
