"""Cells of a sweep that are done: what a configuration led to, found again by its hash.

A cell is one configuration with its seed. When its run has finished, `INDEX/KEY.json` names the run
folder, and the same cell in any later sweep with the same `out_dir` is skipped.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from pgolf.files import sha256_file, sha256_json, write_json

INDEX = Path("sweeps") / ".cells"  # below out_dir
CODE = Path(__file__).resolve().parent.parent
# Keys that change no number of a run, and code that only shows, starts or holds runs.
BLIND_KEYS = {"out_dir", "tracking", "sandbox"}
BLIND_CODE = {
    *("commands", "report", "tracking", "sweeps", "sweep.py", "cli.py", "cache.py", "say.py"),
    *("sandbox", "bundle", "upstream", "pack", "pipeline.py", "launchers.py", "workers.py"),
    *("agent.py", "provenance.py", "progress.py"),
}


def cell_key(config: dict[str, Any]) -> str:
    """Hash of a configuration, the text that it names and the code that computes from it.

    Raises:
        UserError: the text or the tokenizer cannot be used.
    """
    source, tokenizer = instantiate(config["data"]), instantiate(config["tokenizer"])
    source.check()
    tokenizer.check()
    seen = {key: value for key, value in config.items() if key not in BLIND_KEYS}
    inputs = {"data": source.cache_key(), "tokenizer": tokenizer.cache_key()}
    return sha256_json({"config": seen, "inputs": inputs, "code": _code_hash()})[:24]


def _code_hash() -> str:
    names = {path.relative_to(CODE): path for path in CODE.rglob("*.py")}
    seen = {name: path for name, path in names.items() if name.parts[0] not in BLIND_CODE}
    return sha256_json({str(name): sha256_file(path) for name, path in seen.items()})


class Cells:
    """The index of done cells below an output folder.

    Args:
        out_dir: where run folders lie.
    """

    def __init__(self, out_dir: Path) -> None:
        self.folder = out_dir / INDEX

    def find(self, key: str) -> tuple[Path, dict[str, Any]] | None:
        """Run folder and result of a cell; None where it is not done, or its run is gone."""
        try:
            entry = json.loads((self.folder / f"{key}.json").read_text(encoding="utf-8"))
            folder = Path(entry["run_folder"])
            result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
            float(result["bpb"]["final"]["bpb"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return folder, result

    def add(self, key: str, run_folder: Path, overrides: list[str]) -> None:
        """Note that a cell is done; a later run of the same cell takes the place of this one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        entry = {"run_folder": str(run_folder), "overrides": overrides, "time": time.time()}
        write_json(self.folder / f"{key}.json", entry)
