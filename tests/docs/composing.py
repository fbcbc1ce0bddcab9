"""Compose command lines of launch.py, all in one process: reads and writes lists in JSON.

Run in the copy that has the options of the how-to pages.
Says of each what is wrong with it, "" for nothing.
"""

from __future__ import annotations

import json
import sys
import warnings

from hydra.core.override_parser.overrides_parser import OverridesParser

from pgolf.config import compose
from pgolf.errors import UserError


def first_cell(words: list[str]) -> list[str]:
    """The first of the cells that a sweep's words ask for."""
    chosen = []
    for override in OverridesParser.create().parse_overrides(words):
        line = override.input_line or ""
        if override.is_sweep_override():
            line = f"{override.key_or_group}={next(override.sweep_string_iterator())}"
        chosen.append(line)
    return chosen


def fault(words: list[str]) -> str:
    """What the reader would be told, if anything."""
    try:
        compose(first_cell(words))
    except UserError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps([fault(words) for words in json.load(sys.stdin)]))
