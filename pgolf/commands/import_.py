"""`pgolf import FILE -o FOLDER`: published weights or a published log, as pgolf's own.

Weights (final_model.pt, final_model.int6.ptz) become a folder for `pgolf evaluate`, `export` and
`generate`; a log (train_seed*.log) a run that stands in `pgolf runs`, `compare` and the dashboard,
marked as imported and not audited.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pgolf.commands.output import Answer, show_lines
from pgolf.errors import UserError

HELP = "read published weights or logs"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument("file", type=Path, help="final_model.pt, *.int6.ptz or *.log")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "overrides", nargs="*", help="of weights: other values, e.g. scale.num_loops=1"
    )
    parser.add_argument("--experiment", default="v15", help="of weights: whose model it is (v15)")
    parser.add_argument(
        "--tokenizer", type=Path, metavar="PATH", help="of weights: a .model file or a folder"
    )
    parser.add_argument(
        "--val-tokens", type=int, metavar="N", help="of a log that does not say: scored tokens"
    )


def run(options: argparse.Namespace) -> Answer:
    """Where the folder is, and what is in it."""
    if options.file.suffix in (".log", ".txt"):
        if options.overrides or options.tokenizer is not None:
            raise UserError(f"{options.file} is a log: overrides and --tokenizer are of weights")
        from pgolf.upstream.import_log import import_log

        return import_log(options.file, options.output, options.val_tokens)
    if options.val_tokens is not None:
        raise UserError(f"{options.file} is read as weights: --val-tokens is of logs (.log, .txt)")
    from pgolf.upstream.import_weights import import_weights

    return import_weights(
        options.file,
        options.output,
        experiment=options.experiment,
        overrides=options.overrides,
        tokenizer=options.tokenizer,
    )


show = show_lines
