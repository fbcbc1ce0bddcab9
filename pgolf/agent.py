"""Starts worker processes through torchrun, and ends all of them with itself or its parent.

`python -m pgolf.agent --nproc-per-node N -m pgolf.worker JOB`: the arguments are torchrun's. A
worker that fails has already said why, so torchrun's own traceback is left out.
"""

from __future__ import annotations

import logging
import sys


def main() -> None:
    """Run torchrun in this process; exit with 1 when a worker failed."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    try:
        torchrun(sys.argv[1:])
    except ChildFailedError as failure:
        codes = [error.exitcode for error in failure.failures.values()]
        sys.exit(2 if 2 in codes else 1)
    except SignalException:
        sys.exit(130)


if __name__ == "__main__":
    main()
