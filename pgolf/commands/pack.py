"""`pgolf pack RUN|SWEEP -o FOLDER`: a records folder with one self-contained train_gpt.py."""

from __future__ import annotations

import argparse
from pathlib import Path

from pgolf.commands.output import Answer, show_lines

HELP = "make a records folder from finished runs"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="runs of one configuration, a folder of them, or a sweep",
    )
    parser.set_defaults(overrides=[])  # e.g. hardware.kernels=plain, wherever they stand
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--label", action="store_true", help="pack what is not eligible, marked")
    parser.add_argument("--minify", action="store_true", help="no comments, short names")
    parser.add_argument("--wrap", choices=("lzma", "brotli"), help="compressed")
    parser.add_argument("--author", help="for submission.json")
    parser.add_argument("--github-id", help="for submission.json")
    parser.add_argument("--name", help="title; default: the run's name")
    parser.add_argument("--blurb", help="a sentence on what is new")


def run(options: argparse.Namespace) -> Answer:
    """Where the folder is, and what it says."""
    from pgolf.pack.submission import About, pack

    values = [word for word in options.runs if "=" in word and not Path(word).exists()]
    overrides = [*values, *options.overrides]
    return pack(
        [Path(word) for word in options.runs if word not in values],
        options.output,
        About(options.author, options.github_id, options.name, options.blurb),
        overrides=overrides,
        label=options.label,
        short=options.minify,
        wrapped=options.wrap,
    )


show = show_lines
