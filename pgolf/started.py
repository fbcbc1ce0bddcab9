"""From when on a run is charged; launch.py imports this before anything else.

Linux knows when a process began, but not that a script waited, or ran something else, before it
became Python by `exec`: none of that is the run's. What the interpreter did before this line is
nearly all computing, which the process's own clock has counted.
"""

from __future__ import annotations

import time

_process = {"started": time.time() - time.process_time()}


def begin_run() -> float:
    """Unix seconds from which a run counts: the first one of a process from the process's start.

    A later one counts from now: what lies between is another job's, or nobody's.
    """
    return _process.pop("started", time.time())
