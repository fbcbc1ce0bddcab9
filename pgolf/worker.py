"""A worker process: reads one job, builds the parts it names, and runs its stages.

Two kinds of job: *produce* (train, test-time training, quantize, pack) and *evaluate* (score the
artifact, in fresh processes that are given the artifact and the validation shards only).
"""

from __future__ import annotations

import json
import os
import random
import sys
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch

from pgolf.context import Context
from pgolf.distributed import World, join_world
from pgolf.errors import RunFailed, UserError, error_of
from pgolf.files import explain_os_error, write_json
from pgolf.workers import die_with_parent, failure_file


def main() -> None:
    """Run the job named on the command line; exit 2 for a wrong input, 1 for a failed run."""
    die_with_parent()
    path = Path(sys.argv[1])
    job = json.loads(path.read_text(encoding="utf-8"))
    devices = job["devices"]
    torch.set_num_threads(devices["threads"])
    torch.set_float32_matmul_precision("high")
    context, goodbye = Context(job, World()), ExitStack()
    try:
        world = goodbye.enter_context(join_world(devices["device"], devices["precision"]))
        seed_everything(job["seed"])
        context = Context(job, world)
        _run(context)
    except BaseException as error:
        # Without the collective goodbye of a clean end: other ranks may be waiting elsewhere.
        _leave(_report(context, path, error_of(error)))
    goodbye.close()
    # Gloo's threads abort a process once in a while when the interpreter takes itself down.
    _leave(0)


def _leave(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(context: Context) -> None:
    if context.job["kind"] == "produce":
        from pgolf.produce import produce

        produce(context)
    else:
        from pgolf.evaluate import evaluate

        evaluate(context)


def seed_everything(seed: int) -> None:
    """Seed every generator that a part might use; all ranks alike, so weights start equal."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _refused(error: BaseException | None) -> PermissionError | None:
    """The refusal by the sandbox that an error comes from, if it does."""
    while error is not None and not isinstance(error, PermissionError):
        error = error.__cause__ or error.__context__
    return error


def _report(context: Context, job: Path, error: BaseException) -> int:
    """Tell the launcher why: one file beside the job, and the traceback in the log.

    Returns:
        exit code: 2 for a wrong input, 1 for a failed run.
    """
    trace = "".join(traceback.format_exception(error))
    if context.job.get("sandbox") and (refused := _refused(error)) is not None:
        error = RunFailed(
            f"the evaluation may not open {refused.filename or 'a connection'} "
            f"({refused.strerror}): it has the shipped files and the validation text alone "
            "(docs/audit.md)"
        )
    if isinstance(error, OSError):
        error = explain_os_error(error, Path(error.filename or context.run_folder))
    known = isinstance(error, UserError | RunFailed)
    message = str(error) if known else f"{type(error).__name__}: {error}"
    if not isinstance(error, UserError):
        message = f"stage {context.stage}: {message}"
        if (context.run_folder / "config.yaml").exists():
            message += (
                f"\n  log: {context.run_folder / 'log.txt'}\n"
                "  the same command continues from the last checkpoint and reuses finished stages"
            )
        else:  # a folder for one score, which is gone with its log when this ends
            print(trace, file=sys.stderr)
    kind = "user" if isinstance(error, UserError) else "run"
    try:
        if not failure_file(job).exists():
            write_json(failure_file(job), {"kind": kind, "message": message})
        context.say.keep(trace)
    except (OSError, UserError):  # the disk of the run folder is full
        print(message, file=sys.stderr)
    return 2 if kind == "user" else 1


if __name__ == "__main__":
    main()
