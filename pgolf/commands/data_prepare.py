"""`pgolf data prepare INPUT -o FOLDER tokenizer=NAME`: raw documents to shards for training.

The same command goes on where it was killed, and makes damaged files again. A run uses the folder
by `data=prepared data.path=FOLDER`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pgolf.commands.naming import named_tokenizer
from pgolf.commands.output import Answer, show_lines

HELP = "raw documents to shards, by all cores, restartable"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument("input", help=".txt, .jsonl, .jsonl.zst, .parquet ... or a folder of these")
    parser.add_argument("overrides", nargs="*", help="tokenizer=NAME scale.vocab_size=N ...")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--validation",
        default="first:50000",
        metavar="RULE",
        help="first:50000 (documents, the default) | hash:0.02 (of the bytes) | source:NAME "
        "(field `source`) | file:PATH",
    )
    parser.add_argument("--processes", type=int, metavar="N", help="all cores by default")
    parser.add_argument("--shard-tokens", type=int, default=10**8, metavar="N", help="at most")
    parser.add_argument(
        "--engine", choices=("pool", "ray"), default="pool", help="this machine, or a Ray cluster"
    )


def run(options: argparse.Namespace) -> Answer:
    """What the folder holds, and how quickly it came about."""
    from pgolf.clock import Clock
    from pgolf.data.local import LocalText
    from pgolf.data.prepare_shards import prepare_shards
    from pgolf.data.split import parse_rule
    from pgolf.data.tokenize import Work
    from pgolf.errors import UserError

    for name in ("processes", "shard_tokens"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} {value}: expected 1 or more")
    given = [text for text in options.overrides if text.startswith(("data=", "data."))]
    if given:
        raise UserError(
            f"{given[0]}: text and split come from INPUT and --validation; leave it out"
        )
    if options.output.resolve().is_relative_to(Path(options.input).resolve()):
        raise UserError(
            f"-o {options.output}: lies in {options.input}, whose files are read: what is written "
            "would be text the next time; choose a folder outside"
        )
    parse_rule(options.validation, "--validation ")
    source = LocalText(path=options.input, val_rule=options.validation)
    source.check()
    tokenizer = named_tokenizer(options.overrides)
    work = Work(options.shard_tokens, options.processes, options.engine)
    done = prepare_shards(source, tokenizer, options.output, Clock({}), work, show=True)
    manifest = done.manifest
    splits = {"training": manifest.training, "validation": manifest.validation}
    return {
        "folder": str(options.output),
        **{
            name: {
                "documents": split.num_documents,
                "bytes": split.document_bytes,
                "tokens": split.num_tokens,
                "shards": len(split.shards),
            }
            for name, split in splits.items()
        },
        "split_rule": manifest.split_rule,
        "duplicates_removed": manifest.duplicates_removed,
        "training_documents_dropped": manifest.training_documents_dropped,
        "roundtrip": manifest.roundtrip,
        "kept_shards": done.kept_shards,
        "made_again": done.damaged,
        "seconds": {name: round(value, 2) for name, value in done.seconds.items()},
        "mb_per_s": None if done.mb_per_s is None else round(done.mb_per_s, 2),
    }


show = show_lines
