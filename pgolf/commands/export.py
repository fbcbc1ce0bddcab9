"""`pgolf export ARTIFACT -o FOLDER`: model.safetensors, config.json and the tokenizer."""

from __future__ import annotations

import argparse
from pathlib import Path

from pgolf.commands.output import Answer, show_lines

HELP = "write an artifact's weights as safetensors"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument("artifact", type=Path, metavar="ARTIFACT")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--dtype", choices=("fp32", "fp16"), default="fp32", help="fp32: exactly what is scored"
    )
    parser.add_argument("--tokenizer", type=Path, metavar="PATH", help="a folder or .model file")


def run(options: argparse.Namespace) -> Answer:
    """Where the folder is, and what is in it."""
    from pgolf.export import export

    return export(
        options.artifact, options.output, dtype=options.dtype, tokenizer=options.tokenizer
    )


show = show_lines
