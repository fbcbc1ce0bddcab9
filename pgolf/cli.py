"""The `pgolf` command: look at data, artifacts and finished runs.

Each file of pgolf/commands is a subcommand; `pgolf --help` lists them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import sys
from types import ModuleType
from typing import Any

from pgolf import __version__, commands
from pgolf.errors import RunFailed, UserError

# Modules named GROUP_x are `pgolf GROUP x`.
GROUPS = {
    "data": "prepare and look at text and tokenizers",
    "cache": "look at finished stages, or remove old ones",
    "track": "trackers of runs",
}
NO_COMMAND = {"naming", "output"}


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; exit codes as launch.py's."""
    options = _parse(build_parser(), arguments)
    command: ModuleType = options.command
    try:
        answer: dict[str, Any] = command.run(options)
    except UserError as error:
        print(f"input error: {error}", file=sys.stderr)
        return 2
    except RunFailed as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except PermissionError as error:
        print(f"input error: {error.filename}: {error.strerror}; change that", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    try:
        if options.json:
            print(json.dumps(answer, ensure_ascii=False))
        else:
            command.show(answer)
        sys.stdout.flush()
    except BrokenPipeError:  # `pgolf ... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    exit_code: int = getattr(command, "exit_code", _done)(answer)
    return exit_code


def _done(answer: dict[str, Any]) -> int:
    """The exit code of commands that do not judge what they find."""
    return 0


def _parse(parser: argparse.ArgumentParser, arguments: list[str] | None) -> argparse.Namespace:
    """Options, and overrides wherever they stand: argparse takes none behind an option."""
    options, rest = parser.parse_known_args(arguments)
    strange = [word for word in rest if word.startswith("-") or "=" not in word]
    if strange or (rest and not hasattr(options, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(strange or rest)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    return options


def build_parser() -> argparse.ArgumentParser:
    """All subcommands with their options."""
    parser = argparse.ArgumentParser(prog="pgolf", description="Data, artifacts, finished runs.")
    parser.add_argument("--version", action="version", version=f"pgolf {__version__}")
    top = parser.add_subparsers(required=True, metavar="COMMAND")
    inside = {
        group: top.add_parser(group, help=text).add_subparsers(required=True, metavar="COMMAND")
        for group, text in GROUPS.items()
    }
    for found in pkgutil.iter_modules(commands.__path__):
        if found.name in NO_COMMAND:
            continue
        module = importlib.import_module(f"pgolf.commands.{found.name}")
        group, _, name = found.name.partition("_")
        place, name = (inside[group], name) if group in inside else (top, found.name.rstrip("_"))
        _add(place, name.replace("_", "-"), module)
    return parser


def _add(place: Any, name: str, module: ModuleType) -> None:
    command = place.add_parser(name, help=module.HELP, description=module.__doc__)
    command.add_argument("--json", action="store_true", help="one line of JSON")
    module.arguments(command)
    command.set_defaults(command=module)


if __name__ == "__main__":
    sys.exit(main())
