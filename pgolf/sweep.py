"""Multirun bookkeeping: each job leaves its outcome in its folder, the summary reads it there.

Jobs may run in other processes or on other machines, so nothing is taken from return values.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from pgolf.files import write_json

OUTCOME = "outcome.json"

# Called with the run folder when a run has finished.
Hook = Callable[[Path], None]

# Facts about this process: whether a job ran in it, and how many jobs of its sweep failed.
_state = {"started": False, "failed": 0}


def job_started() -> None:
    """Note that composition succeeded: from here on exit code 1 is a failed run."""
    _state["started"] = True


def any_job_started() -> bool:
    return bool(_state["started"])


def overrides_of(job: Any) -> list[str]:
    """The command line's overrides as typed: a reference in one of them is not resolved here."""
    typed: Any = OmegaConf.to_container(job.overrides.task, resolve=False)
    return list(typed)


def record_success(run_folder: Path) -> None:
    """Leave the run folder's path where the sweep's summary finds it."""
    _record({"run_folder": str(run_folder.resolve())})


def record_failure(error: BaseException) -> None:
    """Leave the reason where the summary finds it; the other jobs go on."""
    print(f"job failed: {error}", file=sys.stderr, flush=True)
    _record({"failed": str(error) or type(error).__name__})


def _record(outcome: dict[str, Any]) -> None:
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / OUTCOME, {"overrides": overrides_of(job), **outcome})


def exit_code() -> int:
    """0, or 1 when a job of this process's sweep failed."""
    return 1 if _state["failed"] else 0


class SweepSummary(Callback):
    """Prints the table of a finished sweep (a Hydra callback, named in conf/hydra/default.yaml)."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Read every job's outcome and print them together."""
        from rich.console import Console

        from pgolf.report.sweep import print_sweep

        results, failed = read_outcomes(Path(config.hydra.sweep.dir))
        _state["failed"] = len(failed)
        if results or failed:
            print_sweep(results, failed, Console())


def read_outcomes(folder: Path) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Results of the jobs that finished, (overrides, reason) of those that did not, in order."""
    results, failed = [], []
    jobs = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    for job in sorted(jobs, key=lambda path: (len(path.name), path.name)):
        path = job / OUTCOME
        if not path.exists():
            failed.append((job.name, "ended without a word (killed, or out of memory)"))
            continue
        outcome = json.loads(path.read_text(encoding="utf-8"))
        if "failed" in outcome:
            failed.append((" ".join(outcome["overrides"]), outcome["failed"]))
            continue
        result = Path(outcome["run_folder"]) / "result.json"
        results.append(json.loads(result.read_text(encoding="utf-8")))
    return results, failed
