"""Run one experiment from raw text to an audited score, or a sweep of them.

    python launch.py model=recurrent3 ttt=prequant21 seed=1337
    python launch.py -m seed=1337,42,999 ttt.epochs=0,5,21

Composes and checks the configuration, then hands it to the pipeline. Imports no torch, so that
--help, --cfg job and any configuration error answer at once.
Exit codes: 0 done, 1 the run failed, 2 configuration or input wrong, 130 interrupted (resumable).
"""

from __future__ import annotations

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from pgolf import config, sweep
from pgolf.errors import RunFailed, UserError


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def launch(cfg: DictConfig) -> float | None:
    """One job: returns the final BPB, or None when it failed (the reason lies in its folder)."""
    job = HydraConfig.get()
    sweep.job_started()
    try:
        settings = config.resolve(cfg)
        config.check(settings)
        from pgolf import pipeline  # after the checks: it imports numpy and rich

        return pipeline.run(settings, list(job.overrides.task))
    except (UserError, RunFailed) as error:
        if job.mode is RunMode.MULTIRUN:
            sweep.record_failure(job, error)
            return None
        print(f"{_kind(error)}: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UserError) else 1)


def _kind(error: Exception) -> str:
    return "configuration or input error" if isinstance(error, UserError) else "run failed"


def main() -> None:
    """Run Hydra's entry point and translate its exit codes into pgolf's."""
    try:
        launch()
    except KeyboardInterrupt:
        print("interrupted: the same command continues from the last checkpoint", file=sys.stderr)
        sys.exit(130)
    except SystemExit as stop:
        # Hydra ends with 1 when the configuration does not compose: nothing has run yet.
        if stop.code == 1 and not sweep.any_job_started():
            sys.exit(2)
        raise
    sys.exit(sweep.finish())


if __name__ == "__main__":
    main()
