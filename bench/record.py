"""How every bench script ends: its figures for people or as JSON, and on request kept on disk.

`--save` writes bench/results/NAME.json with the hardware and the packages that gave the figures.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from pgolf import provenance
from pgolf.files import write_json

RESULTS = Path(__file__).resolve().parent / "results"


def add_options(parser: argparse.ArgumentParser) -> None:
    """`--json` and `--save`."""
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--save", action="store_true", help="keep in bench/results/")


def finish(name: str, figures: dict[str, Any], options: argparse.Namespace) -> None:
    """Print the figures, as lines or as JSON, and keep them if asked to."""
    if options.json:
        print(json.dumps(figures))
    else:
        width = max(len(key) for key in figures) + 2
        for key, value in figures.items():
            print(f"{key:<{width}}{_text(value)}")
    if options.save:
        RESULTS.mkdir(exist_ok=True)
        write_json(RESULTS / f"{name}.json", {"figures": figures, "hardware": hardware()})


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " -> ".join(map(_text, value))
    return f"{value:,.5f}" if isinstance(value, float) else f"{value:,}"


def hardware() -> dict[str, Any]:
    """Processor, cores and packages of this machine."""
    return {
        "cpu": provenance.cpu_model(),
        "cpus": os.cpu_count(),
        "packages": provenance.package_versions(),
    }
