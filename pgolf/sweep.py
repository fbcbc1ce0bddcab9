"""Multirun bookkeeping: each job leaves its outcome in its folder, the summary reads it there.

Jobs may run in other processes or on other machines, so nothing is taken from return values. A cell
that an earlier sweep has finished is skipped, one that fails is tried once more.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from pgolf.errors import UserError
from pgolf.files import write_json
from pgolf.sweeps.cells import Cells, cell_key
from pgolf.sweeps.counts import wrong_count
from pgolf.sweeps.slots import dealt_gpus, share_of, visible_gpus
from pgolf.sweeps.watch import announce, end_with_launcher, leave_orphan

OUTCOME = "outcome.json"
SUMMARY = "sweep.json"
PAGE = "comparison.html"

Config = dict[str, Any]
# Called with the run folder when a run has finished.
Hook = Callable[[Path], None]
# Runs a configuration with its overrides, calls the hooks, returns the final BPB.
Run = Callable[..., float]

# Facts about this process: whether a job ran in it, and how many jobs of its sweep failed.
_state = {"started": False, "failed": 0}


def job_started() -> None:
    """Note that composition succeeded: from here on exit code 1 is a failed run."""
    _state["started"] = True


def any_job_started() -> bool:
    return bool(_state["started"])


def exit_code() -> int:
    """0, or 1 when a job of this process's sweep failed."""
    return 1 if _state["failed"] else 0


def overrides_of(job: Any) -> list[str]:
    """The command line's overrides as typed: a reference in one of them is not resolved here."""
    typed: Any = OmegaConf.to_container(job.overrides.task, resolve=False)
    return list(typed)


# -- one job ---------------------------------------------------------------------------------------


def run_cell(settings: Callable[[], Config], overrides: list[str], run: Run) -> float | None:
    """One job of a sweep, in whatever process its launcher has put it.

    Args:
        settings: resolves and checks the configuration.
        overrides: as typed.
        run: `run(config, overrides, hook)`.

    Returns:
        final BPB; None when the cell failed, whose reason then lies in the job's folder.
    """
    end_with_launcher()
    try:
        config = settings()
        cells, key = Cells(Path(config["out_dir"])), cell_key(config)
        options: Any = HydraConfig.get().callbacks["sweep"]
        done = cells.find(key) if options.skip_done else None
        if done is not None:
            folder, result = done
            print(f"done before, skipped: {folder}", file=sys.stderr, flush=True)
            _record({"run_folder": str(folder), "skipped": True})
            return float(result["bpb"]["final"]["bpb"])
        with _gpus(options.gpus_per_job):
            return _attempts(lambda hook: run(config, overrides, hook), cells, key, options.retries)
    except KeyboardInterrupt:
        leave_orphan()
        raise
    except Exception as error:  # whatever it was, the other jobs go on
        print(f"job failed: {error}", file=sys.stderr, flush=True)
        _record({"failed": _words(error)})
        return None


def _attempts(run: Callable[[Hook], float], cells: Cells, key: str, retries: int) -> float:
    """Run a cell; when it fails for another reason than a wrong input, run it once more."""
    failures: list[str] = []

    def finished(run_folder: Path) -> None:
        folder = run_folder.resolve()
        cells.add(key, folder, overrides_of(HydraConfig.get()))
        _record({"run_folder": str(folder), **({"failed_before": failures} if failures else {})})

    while True:
        try:
            return run(finished)
        except UserError:  # it would be the same again
            raise
        except Exception as error:
            if len(failures) >= retries:
                raise
            failures.append(_words(error))
            print(f"cell failed: {error}\n  trying once more", file=sys.stderr, flush=True)


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _gpus(wanted: int | None) -> AbstractContextManager[Any]:
    """This job's share of the GPUs, where several jobs run on this host at the same time."""
    launcher: Any = OmegaConf.to_container(HydraConfig.get().launcher, resolve=True)
    if share_of(launcher, 1, wanted) is None:
        return nullcontext()
    gpus = visible_gpus()
    return dealt_gpus(gpus, share_of(launcher, len(gpus), wanted) or 1)


def _record(outcome: dict[str, Any]) -> None:
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / OUTCOME, {"overrides": overrides_of(job), **outcome})


# -- the whole sweep -------------------------------------------------------------------------------


@dataclass
class Outcomes:
    """What the jobs of a sweep left.

    Args:
        folders, results: of the jobs that finished, in order.
        failed: `(overrides, reason)` of those that did not.
        skipped: how many had been done before.
        retried: `(overrides, reason)` of first attempts that failed where the second did not.
    """

    folders: list[Path] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    retried: list[tuple[str, str]] = field(default_factory=list)
    skipped: int = 0


class SweepCallback(Callback):
    """What Hydra calls at both ends of a sweep (named in conf/hydra/default.yaml).

    Args:
        skip_done: skip cells that an earlier sweep has finished with the same code and text.
        retries: how often a cell is tried again that failed for another reason than its input.
        gpus_per_job: of jobs at the same time; None divides the GPUs among them.
    """

    def __init__(
        self, *, skip_done: bool = True, retries: int = 1, gpus_per_job: int | None = None
    ) -> None:
        gpus = 1 if gpus_per_job is None else gpus_per_job
        if not all(isinstance(n, int) and n >= low for n, low in ((retries, 0), (gpus, 1))):
            raise UserError(
                f"hydra.callbacks.sweep: retries={retries} (0 or more), "
                f"gpus_per_job={gpus_per_job} (1 or more, or null)"
            )
        del skip_done  # jobs read all three from their configuration, wherever they run

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """What the command line names takes the place of the sweep file's values, not beside it."""
        announce()
        wrong = wrong_count(config.hydra)
        if wrong is not None:
            print(f"configuration error:\n{wrong}", file=sys.stderr)
            raise SystemExit(2)  # of any other exception in here Hydra makes a warning
        params = config.hydra.sweeper.get("params")
        if not params:
            return
        named = {text.partition("=")[0].lstrip("+~") for text in overrides_of(config.hydra)}
        with read_write(config), open_dict(config):
            for key in [key for key in params if key in named]:
                del config.hydra.sweeper.params[key]

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Read every job's outcome, print them together and write what compares them."""
        folder = Path(config.hydra.sweep.dir)
        outcomes = read_outcomes(folder)
        _state["failed"] = len(outcomes.failed)
        if outcomes.results or outcomes.failed:
            _show(outcomes)
            _write(folder, outcomes)


def read_outcomes(folder: Path) -> Outcomes:
    """What the jobs in a sweep's folder left, in the order of their numbers."""
    found = Outcomes()
    jobs = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    jobs = [path for path in jobs if not path.name.startswith(".")]  # of launchers
    for job in sorted(jobs, key=lambda path: (len(path.name), path.name)):
        path = job / OUTCOME
        if not path.exists():
            found.failed.append((job.name, "ended without a word (killed, or out of memory)"))
            continue
        outcome = json.loads(path.read_text(encoding="utf-8"))
        overrides = " ".join(outcome["overrides"])
        if "failed" in outcome:
            found.failed.append((overrides, outcome["failed"]))
            continue
        run_folder = Path(outcome["run_folder"])
        try:
            result = json.loads((run_folder / "result.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:  # moved or removed while the others went on
            found.failed.append((overrides, f"its result cannot be read any more: {error}"))
            continue
        found.folders.append(run_folder)
        found.results.append(result)
        found.retried += [(overrides, reason) for reason in outcome.get("failed_before", [])]
        found.skipped += bool(outcome.get("skipped"))
    return found


def _show(outcomes: Outcomes) -> None:
    from rich.console import Console

    from pgolf.report.sweep import print_sweep

    print_sweep(outcomes.results, outcomes.failed, Console())
    for overrides, reason in outcomes.retried:
        print(f" {overrides}: failed once ({reason.splitlines()[0]}), the second attempt did not")
    if outcomes.skipped:
        print(f" {outcomes.skipped} of these were done before and skipped")
    for line in reuse_lines(outcomes):
        print(f" {line}")


def reuse(outcomes: Outcomes) -> dict[str, dict[str, float]]:
    """Of each stage that came from the cache: how often, and the seconds that this saved."""
    stages: dict[str, dict[str, float]] = {}
    for result in outcomes.results:
        for stage in result["reused"]:
            entry = stages.setdefault(stage, {"times": 0, "saved_s": 0.0})
            entry["times"] += 1
            entry["saved_s"] += result["seconds"].get(stage, 0.0)
    return stages


def reuse_lines(outcomes: Outcomes) -> list[str]:
    """The stage cache's part in a sweep, in words."""
    stages, jobs = reuse(outcomes), len(outcomes.results)
    if not stages:
        return []
    total = sum(entry["saved_s"] for entry in stages.values())
    return [
        f"stage cache: saved {total:.1f} s",
        *(
            f"  {stage}: reused by {entry['times']:.0f} of {jobs}, {entry['saved_s']:.1f} s"
            for stage, entry in stages.items()
            if entry["saved_s"] >= 0.05
        ),
    ]


def _write(folder: Path, outcomes: Outcomes) -> None:
    summary = {
        "runs": [str(path) for path in outcomes.folders],
        "failed": [{"overrides": o, "reason": r} for o, r in outcomes.failed],
        "retried": [{"overrides": o, "reason": r} for o, r in outcomes.retried],
        "skipped": outcomes.skipped,
        "reused": reuse(outcomes),
    }
    write_json(folder / SUMMARY, summary)
    if outcomes.folders:
        from pgolf.report.board import write_board

        page = write_board(outcomes.folders, folder / PAGE)
        print(f"\n comparison {page}")
