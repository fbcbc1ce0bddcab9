"""Run one experiment from raw text to an audited score, or a sweep of them.

    python launch.py model=recurrent3 ttt=prequant21 seed=1337
    python launch.py -m seed=1337,42,999 ttt.epochs=0,5,21
    python launch.py -m sweep=seeds_x_ttt hydra/launcher=joblib

Composes and checks the configuration, then hands it to the pipeline. Imports no torch, so that
--help, --cfg job and any configuration error answer at once.
Exit codes: 0 done, 1 the run failed, 2 configuration or input wrong, 130 interrupted (resumable).
"""

from __future__ import annotations

import pgolf.started  # noqa: F401  # before the rest: from here on seconds are charged

# isort: split
import os
import signal
import sys
import warnings
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pgolf import config, sweep
from pgolf.errors import RunFailed, UserError
from pgolf.files import explain_os_error


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def launch(cfg: DictConfig) -> float | None:
    """One job: returns the final BPB, or None when it failed (the reason lies in its folder)."""
    job = HydraConfig.get()
    sweep.job_started()
    overrides = sweep.overrides_of(job)
    if job.mode is RunMode.MULTIRUN:
        return sweep.run_cell(lambda: _settings(cfg), overrides, _run)
    try:
        return _run(_settings(cfg), overrides)
    except UserError as error:
        sys.exit(_say(2, f"configuration or input error: {error}"))
    except RunFailed as error:
        sys.exit(_say(1, f"run failed: {error}"))


def _settings(cfg: DictConfig) -> config.Config:
    settings = config.resolve(cfg)
    config.check(settings)
    return settings


def _run(settings: config.Config, overrides: list[str], *on_success: sweep.Hook) -> float:
    from pgolf import pipeline  # after the checks: it imports numpy and rich

    return pipeline.run(settings, overrides, *on_success)


def main() -> None:
    """Run Hydra's entry point and translate outcomes into pgolf's exit codes."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    # Otherwise Hydra itself prints what goes wrong, some of it as a traceback, and ends with 1.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    # A scheduler's SIGTERM is a Ctrl-C: trackers are told, workers end, exit code 130.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        launch()
    except KeyboardInterrupt:
        sys.exit(_say(130, "interrupted: the same command continues from the last checkpoint"))
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        if sweep.any_job_started():
            raise
        cause = error.__cause__
        told = (cause,) if isinstance(cause, UserError) else (error, cause)
        reasons = dict.fromkeys(str(e).strip() for e in told if e)
        sys.exit(_say(2, "\n".join(["configuration error:", *reasons])))
    except OSError as error:  # Hydra makes the sweep's folder itself
        reason = explain_os_error(error, Path(error.filename or "out_dir"))
        if sweep.any_job_started() or not isinstance(reason, UserError):
            raise
        sys.exit(_say(2, f"configuration or input error: {reason}"))
    sys.exit(sweep.exit_code())


def _say(code: int, message: str) -> int:
    print(message, file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
