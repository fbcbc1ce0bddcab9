"""The `pgolf` command: look at data, artifacts and finished runs.

pgolf data roundtrip FILE tokenizer=caseops_lossless [--json]
pgolf evaluate RUN [--json]        score a run's artifact again, in fresh workers
pgolf inspect ARTIFACT [--json]    what lies in an artifact, and where its bytes go
pgolf compare RUN RUN ... [--json]
pgolf report RUN                   write report.html again
pgolf doctor [--json]              what this machine has
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pgolf import __version__
from pgolf.errors import RunFailed, UserError

Answer = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; exit codes as launch.py's."""
    options = build_parser().parse_args(arguments)
    try:
        answer: Answer = options.run(options)
    except UserError as error:
        print(f"input error: {error}", file=sys.stderr)
        return 2
    except RunFailed as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    if options.json:
        print(json.dumps(answer, ensure_ascii=False))
    else:
        options.show(answer)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """All subcommands with their options."""
    parser = argparse.ArgumentParser(
        prog="pgolf", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"pgolf {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    data = commands.add_parser("data", help="look at text and tokenizers")
    data_commands = data.add_subparsers(required=True, metavar="COMMAND")
    command = _command(data_commands, "roundtrip", roundtrip, show_lines,
                       "encode and decode every document, and compare")  # fmt: skip
    command.add_argument("file", type=Path, help=".txt, .jsonl, .jsonl.zst, .parquet or a folder")
    command.add_argument("overrides", nargs="*", help="tokenizer=NAME tokenizer.path=MODEL ...")

    command = _command(commands, "evaluate", evaluate, show_lines, "score a run's artifact again")
    command.add_argument("run_folder", type=Path, metavar="RUN")
    command = _command(commands, "inspect", inspect, show_artifact, "what lies in an artifact")
    command.add_argument("artifact", type=Path, help="an artifact, its folder or a run folder")
    command = _command(commands, "compare", compare, show_comparison, "runs side by side")
    command.add_argument("run_folders", type=Path, nargs="+", metavar="RUN")
    command = _command(commands, "report", report, show_lines, "write report.html again")
    command.add_argument("run_folder", type=Path, metavar="RUN")
    _command(commands, "doctor", doctor, show_lines, "what this machine has")
    return parser


def _command(
    commands: Any, name: str, run: Callable[..., Answer], show: Callable[[Answer], None], text: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.add_argument("--json", action="store_true", help="one line of JSON")
    command.set_defaults(run=run, show=show)
    return command


# -- the commands: each returns what --json prints ---------------------------------------------


def roundtrip(options: argparse.Namespace) -> Answer:
    """`{documents, exact, bytes, tokens}`: `exact` documents decode to what they were."""
    from hydra.utils import instantiate

    from pgolf.config import compose
    from pgolf.data.documents import read_documents
    from pgolf.tokenizer.roundtrip import roundtrip as count

    config = compose(options.overrides)
    tokenizer = instantiate(config["tokenizer"])
    tokenizer.check()
    documents = list(read_documents(options.file))
    # Without a given model the tokenizer learns from the very text that it is tried on.
    tokenizer.fit(documents)
    return count(tokenizer, documents)


def evaluate(options: argparse.Namespace) -> Answer:
    """The `final` score of a run's artifact, measured anew."""
    from pgolf.pipeline import evaluate_again

    return evaluate_again(options.run_folder)


def inspect(options: argparse.Namespace) -> Answer:
    """Tensors, bits and bytes of an artifact."""
    from pgolf.artifact import describe, read_artifact

    path: Path = options.artifact
    return describe(read_artifact(path / "artifact" if (path / "artifact").is_dir() else path))


def compare(options: argparse.Namespace) -> Answer:
    """The results of several runs, in the order given."""
    from pgolf.report.rundata import load_run

    return {"runs": [load_run(folder).result for folder in options.run_folders]}


def report(options: argparse.Namespace) -> Answer:
    """Write report.html again, e.g. with a newer pgolf."""
    from pgolf.report.page import write_report

    return {"report": str(write_report(options.run_folder))}


def doctor(options: argparse.Namespace) -> Answer:
    """Versions, devices, attention backends, caches and account, as a run would find them."""
    import torch

    from pgolf import provenance
    from pgolf.hardware import Hardware
    from pgolf.kernel.attention import available_backends
    from pgolf.pipeline import cache_folder
    from pgolf.tracking.wandb_account import find_account

    devices = Hardware().settle()
    facts = provenance.collect()
    device = torch.device(devices.device)
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "pgolf": __version__,
        "python": facts["python"],
        "platform": facts["platform"],
        "cpu": facts["cpu"],
        "cpus": facts["cpus_usable"],
        "gpus": gpus,
        "settled": devices.as_dict(),
        "attention": available_backends(device),
        "packages": facts["packages"],
        "cache": str(cache_folder()),
        "wandb": "an account is found" if find_account().usable else "no key: runs stay offline",
    }


# -- for people ---------------------------------------------------------------------------------


def show_lines(answer: Answer) -> None:
    width = max(len(key) for key in answer) + 2
    for key, value in answer.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {item}" for name, item in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value)) or "none"
        elif isinstance(value, int) and not isinstance(value, bool):
            value = f"{value:,}"
        print(f"{key:<{width}}{value}")


def show_artifact(answer: Answer) -> None:
    """A row a tensor, a row a stream, then the totals."""
    show_table(answer["tensors"])
    show_table(answer["streams"])
    show_lines({key: value for key, value in answer.items() if key not in ("tensors", "streams")})


def show_table(rows: list[Answer]) -> None:
    """Rows with the same keys, and a blank line after them."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from pgolf.report.table import print_trimmed

    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for key in rows[0]:
        table.add_column(key, justify="left" if isinstance(rows[0][key], str) else "right")
    for row in rows:
        cells = (f"{v:,}" if isinstance(v, int) else str(v) for v in row.values())
        table.add_row(*cells)
    print_trimmed(table, Console())
    print()


def show_comparison(answer: Answer) -> None:
    from rich.console import Console

    from pgolf.report.sweep import print_sweep

    print_sweep(answer["runs"], [], Console())


if __name__ == "__main__":
    sys.exit(main())
