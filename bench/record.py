"""How every bench script ends: its figures for people or as JSON, and on request kept on disk.

`--save` writes bench/results/NAME.json with the hardware and the packages that gave the figures.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

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
        for line in _lines(figures):
            print(line)
    if options.save:
        save(name, figures)


def save(name: str, figures: dict[str, Any]) -> None:
    """Keep the figures with this machine's hardware; long benches do so as they go."""
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / f"{name}.json", {"figures": figures, "hardware": hardware()})


def saved(name: str) -> dict[str, Any]:
    """The figures kept before; empty if there are none."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text())["figures"] if path.exists() else {}


def _lines(figures: dict[str, Any], indent: str = "") -> Iterator[str]:
    width = max(len(key) for key in figures) + 2 if figures else 0
    for key, value in figures.items():
        if isinstance(value, dict):
            yield f"{indent}{key}"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{key:<{width}}{_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " -> ".join(map(_text, value))
    if isinstance(value, str):
        return value
    return f"{value:,.5f}" if isinstance(value, float) else f"{value:,}"


def hardware() -> dict[str, Any]:
    """Processor, cores, GPUs and packages of this machine."""
    return {
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cpu": provenance.cpu_model(),
        "cpus": os.cpu_count(),
        "packages": provenance.package_versions(),
    }
