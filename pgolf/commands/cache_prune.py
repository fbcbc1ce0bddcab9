"""`pgolf cache prune`: remove finished stages that are old, or too many.

What a run that still goes may use stays. A removed stage is made again when a run needs it; run
folders keep their artifacts, whose bytes are freed with the last of the two.
"""

from __future__ import annotations

import argparse
import re
import time

from pgolf.commands.output import Answer
from pgolf.errors import UserError

HELP = "remove finished stages that are old, or too many"
SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument("--older", metavar="AGE", help="unused for longer, e.g. 7d, 12h")
    parser.add_argument("--keep-bytes", metavar="SIZE", help="the longest unused go, e.g. 20GB")
    parser.add_argument("--stage", help="only of this one; alone, all of it")
    parser.add_argument("--dry-run", action="store_true", help="only tell what would go")


def run(options: argparse.Namespace) -> Answer:
    """What was removed, and what stays although it was chosen."""
    from pgolf.cache import choose, entries, oldest_running, remove
    from pgolf.pipeline import cache_folder

    if not (options.older or options.keep_bytes or options.stage):
        raise UserError("say what may go: --older 7d, --keep-bytes 20GB or --stage NAME")
    older_s = quantity("--older", options.older, SECONDS) if options.older else None
    keep = quantity("--keep-bytes", options.keep_bytes, BYTES) if options.keep_bytes else None
    cache = cache_folder()
    found = entries(cache)
    check_stage(options.stage, {entry.stage for entry in found})
    chosen = choose(
        found,
        stage=options.stage,
        older_s=older_s,
        keep_bytes=None if keep is None else int(keep),
        now=time.time(),
    )
    oldest = oldest_running(cache)
    removed, kept = [], []
    for entry in chosen:
        row: Answer = {"stage": entry.stage, "key": entry.key, "bytes": entry.bytes}
        reason = None if options.dry_run else remove(entry, oldest)
        if reason is None:
            removed.append(row)
        else:
            kept.append({**row, "reason": reason})
    total = sum(row["bytes"] for row in removed)
    return {"dry_run": options.dry_run, "bytes": total, "removed": removed, "kept": kept}


def check_stage(stage: str | None, known: set[str]) -> None:
    """Raises UserError where a cache that has entries has none of the stage."""
    if stage is not None and known and stage not in known:
        raise UserError(f"--stage {stage}: the cache has {', '.join(sorted(known))}")


def quantity(option: str, text: str, units: dict[str, int]) -> float:
    """A number with its unit in the smallest one.

    Raises:
        UserError: no number, or another unit.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    names = {name.lower(): size for name, size in units.items()}
    if found is None or found[2].lower() not in names:
        raise UserError(f"{option} {text}: expected a number and one of {', '.join(units)}")
    return float(found[1]) * names[found[2].lower()]


def show(answer: Answer) -> None:
    """A line for each entry, and the sum."""
    word = "would go" if answer["dry_run"] else "removed"
    for row in answer["removed"]:
        print(f"{word}  {row['stage']}/{row['key']}  {row['bytes']:,} bytes")
    for row in answer["kept"]:
        print(f"stays    {row['stage']}/{row['key']}: {row['reason']}")
    print(f"{len(answer['removed'])} {word}, {answer['bytes']:,} bytes")
