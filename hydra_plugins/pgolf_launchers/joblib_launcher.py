"""hydra/launcher=joblib: several cells at the same time, and a killed one is tried once more."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence

from hydra.core.utils import JobReturn

if importlib.util.find_spec("joblib") is not None:
    from hydra_plugins.hydra_joblib_launcher import joblib_launcher as original

    class JoblibLauncher(original.JoblibLauncher):
        """Hydra's launcher; where the system kills a job's process, all others would be lost."""

        def launch(
            self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
        ) -> Sequence[JobReturn]:
            """Run the jobs; those that were done when a process was killed are skipped then."""
            from joblib.externals.loky.process_executor import BrokenProcessPool

            try:
                return super().launch(job_overrides, initial_job_idx)
            except BrokenProcessPool as error:
                print(f"a job was killed ({error}): trying once more", file=sys.stderr, flush=True)
                return super().launch(job_overrides, initial_job_idx)
