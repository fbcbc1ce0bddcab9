"""`pgolf evaluate RUN|FOLDER`: an artifact scored again, in fresh workers.

A run knows its data. With --data any artifact is scored on the validation split of those shards:
a run, an imported folder, or the files that were shipped; no training text is needed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pgolf.commands.output import Answer, show_lines
from pgolf.errors import UserError

HELP = "score an artifact again"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument("run_folder", type=Path, metavar="FOLDER")
    parser.add_argument(
        "overrides", nargs="*", help="other values, e.g. hardware=cpu eval.stride=32"
    )
    parser.add_argument(
        "--data", type=Path, metavar="SHARDS", help="prepared or published shards to score on"
    )
    parser.add_argument(
        "--tokenizer", type=Path, metavar="PATH", help="of published shards, to compare"
    )


def run(options: argparse.Namespace) -> Answer:
    """The `final` score, measured anew; with --data also the `standard` one."""
    from pgolf.pipeline import cache_folder, evaluate_again

    if options.data is not None:
        from pgolf.evaluate_folder import evaluate_on

        return evaluate_on(
            options.run_folder, options.data, options.overrides, cache_folder(), options.tokenizer
        )
    folder: Path = options.run_folder
    # Without its configuration nobody knows an artifact's data.
    is_alone = folder.name == "model.pgolf" or (folder / "model.pgolf").is_file()
    if is_alone or (folder / "imported.json").is_file() or options.tokenizer is not None:
        raise UserError(f"{options.run_folder}: name the shards to score on by --data SHARDS")
    return evaluate_again(options.run_folder, options.overrides)


show = show_lines
