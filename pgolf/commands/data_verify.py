"""`pgolf data verify FOLDER`: is a folder of shards whole, and are its splits apart?

Exit code 2 if there is a fault; each names file, byte and remedy.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pgolf.commands.output import Answer

HELP = "check a folder of shards: files, ids, bytes, splits"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument("folder", type=Path, help="prepared, or published shards")
    parser.add_argument(
        "overrides",
        nargs="*",
        help="tokenizer=NAME tokenizer.path=MODEL: of published shards, to compare",
    )
    parser.add_argument(
        "--documents",
        type=Path,
        metavar="PATH",
        help="raw validation documents in their order, where the folder has none",
    )


def run(options: argparse.Namespace) -> Answer:
    """`{folder, ok, checks: [{name, ok, about, faults}]}`."""
    from pgolf.commands.naming import named_tokenizer, option_name
    from pgolf.data.documents import find_files
    from pgolf.data.verify import verify_folder
    from pgolf.errors import UserError

    tokenizer = None
    if options.overrides:
        tokenizer = named_tokenizer(options.overrides)
        if getattr(tokenizer, "path", "") is None:
            raise UserError(
                f"tokenizer={option_name(tokenizer)} names no model, and none is trained to "
                "verify: add tokenizer.path=MODEL, or leave it out for a prepared folder, which "
                "has its own"
            )
        tokenizer.fit([])
    if options.documents is not None:
        find_files(options.documents)
    checks = verify_folder(options.folder, options.documents, tokenizer, show=not options.json)
    rows = [
        {
            "name": check.name,
            "ok": None if check.skipped else not check.num_faults,
            "about": check.about,
            "num_faults": check.num_faults,
            "faults": [vars(fault) for fault in check.faults],
        }
        for check in checks
    ]
    return {"folder": str(options.folder), "ok": not any(r["faults"] for r in rows), "checks": rows}


def show(answer: Answer) -> None:
    """A line a check, and one for each fault."""
    from pgolf.data.faults import Fault

    for check in answer["checks"]:
        verdict = {True: "ok", None: "-", False: f"{check['num_faults']} FAULTS"}[check["ok"]]
        print(f"{check['name']:<11}{verdict:<10}{check['about']}")
        for fault in check["faults"]:
            print(f"  {Fault(**fault)}")


def exit_code(answer: Answer) -> int:
    """2 if there is a fault."""
    return 0 if answer["ok"] else 2
