"""hydra/launcher=ray: cells as tasks of a Ray cluster.

A plugin of pgolf's own: the published one needs a client for a cloud even on a local cluster.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


class RayLauncher(Launcher):
    """Runs every cell as a task; those that the cluster has no room for yet wait in its queue.

    Args:
        address: of a cluster; None starts one on this host and stops it in the end.
        cpus_per_job, gpus_per_job: what a cell takes of the cluster.
        num_cpus: size of the local cluster; None counts the host's cores.
    """

    def __init__(
        self,
        *,
        address: str | None,
        cpus_per_job: float,
        gpus_per_job: float,
        num_cpus: int | None,
    ) -> None:
        self.address, self.num_cpus = address, num_cpus
        self.resources = {"num_cpus": cpus_per_job, "num_gpus": gpus_per_job}
        self.config: DictConfig | None = None
        self.task_function: TaskFunction | None = None
        self.hydra_context: HydraContext | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra before `launch`."""
        self.config, self.task_function = config, task_function
        self.hydra_context = hydra_context

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs and wait for all; however that ends, a local cluster ends with it."""
        import ray

        setup_globals()
        paths = os.pathsep.join(path for path in sys.path if path)
        # A cluster's workers start elsewhere, with another module path.
        environment = {"env_vars": {"PYTHONPATH": paths}}
        local = {} if self.address else {"num_cpus": self.num_cpus, "include_dashboard": False}
        if not ray.is_initialized():
            ray.init(address=self.address, runtime_env=environment, log_to_driver=True, **local)
        # A task that dies is not started again by Ray: run_cell tries a failed cell once more.
        task = ray.remote(max_retries=1, **self.resources)(_run_cell)
        state = Singleton.get_state()
        waiting = [
            task.remote(self, initial_job_idx + index, list(overrides), os.getcwd(), state)
            for index, overrides in enumerate(job_overrides)
        ]
        try:
            return list(ray.get(waiting))
        finally:
            if self.address is None:
                ray.shutdown()
            else:
                for job in waiting:
                    ray.cancel(job, force=True)


def _run_cell(
    launcher: RayLauncher, number: int, overrides: list[str], folder: str, state: dict[Any, Any]
) -> JobReturn:
    """One cell, in a process of the cluster."""
    os.chdir(folder)  # relative paths mean what they mean where the sweep was started
    Singleton.set_state(state)
    setup_globals()
    assert launcher.hydra_context and launcher.config and launcher.task_function
    config = launcher.hydra_context.config_loader.load_sweep_config(launcher.config, overrides)
    with open_dict(config):
        config.hydra.job.id, config.hydra.job.num = f"{config.hydra.job.name}_{number}", number
    return run_job(
        hydra_context=launcher.hydra_context,
        task_function=launcher.task_function,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
