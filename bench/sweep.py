"""A sweep beside its parts: the whole command's seconds over those of what its cells did.

python bench/sweep.py [--sweep NAME] [--set OVERRIDE ...] [--json] [--save]

Runs `launch.py -m sweep=NAME` into an empty folder with an empty cache, and adds up the seconds of
every stage of every cell that did not come out of the cache: trainings, tails, and the starts of
their workers. The rest is what the sweep itself costs: launching, waiting, summary and page.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import record

ROOT = Path(__file__).resolve().parents[1]


def run_sweep(name: str, overrides: list[str], folder: Path) -> float:
    """Seconds of the whole command."""
    command = [sys.executable, str(ROOT / "launch.py"), "-m", f"sweep={name}", *overrides]
    begun = time.perf_counter()
    subprocess.run(
        command, cwd=folder, check=True, env={**os.environ, "PGOLF_CACHE": str(folder / "cache")}
    )
    return time.perf_counter() - begun


def parts_of(folder: Path) -> dict[str, Any]:
    """What the cells did themselves, in seconds, and how often they trained."""
    results = [json.loads(path.read_text()) for path in folder.glob("outputs/*/*/result.json")]
    done = [
        (stage, seconds)
        for result in results
        for stage, seconds in result["seconds"].items()
        if stage not in result["reused"]
    ]
    training = [seconds for stage, seconds in done if stage == "train"]
    return {
        "cells": len(results),
        "trainings": len(training),
        "seconds of trainings": sum(training),
        "seconds of all else": sum(seconds for _, seconds in done) - sum(training),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweep", default="seeds_x_ttt")
    parser.add_argument("--set", nargs="*", default=[], help="overrides, e.g. scale.num_steps=60")
    record.add_options(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        seconds = run_sweep(options.sweep, ["tracking=none", *options.set], Path(name))
        figures = parts_of(Path(name))
    parts = figures["seconds of trainings"] + figures["seconds of all else"]
    figures |= {"seconds": seconds, "over its parts": seconds / parts}
    record.finish("sweep", figures, options)


if __name__ == "__main__":
    main()
