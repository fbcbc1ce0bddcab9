"""Run subcommands of pgolf one after another in one process, which imports torch once.

Run in the copy that has the options of the how-to pages: reads [[word, ...], ...] in JSON, and
writes the exit code and the output of each.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys

from pgolf.cli import main


def run(words: list[str]) -> tuple[int, str]:
    """Exit code, and what is printed on both outputs."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            code = main(words)
        except SystemExit as error:  # --help, or an option that there is not
            code = int(error.code or 0)
    return code, printed.getvalue()


if __name__ == "__main__":
    print(json.dumps([run(words) for words in json.load(sys.stdin)]))
