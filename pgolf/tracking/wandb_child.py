"""The process that talks to wandb: reads JSON lines, answers with one line once the run is open.

A process of its own because wandb may block for half a minute where the network is gone, keeps
threads and exit hooks, and prints: here it can be waited for, or killed, without hurting a run.
It imports nothing from pgolf, and ends by itself when its input ends.

    in   {"init": {...}, "config": {...}, "axes": {"train/*": "step"}, "timeout_s": 8.0}
    in   {"log": {...}}   {"summary": {...}}   {"finish": exit code}
    out  {"ok": true, "url": ... or null} or {"ok": false, "reason": ...}
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any


def main() -> None:
    """Serve one run."""
    # The launcher decides when this ends: Ctrl-C reaches it first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever wandb prints belongs into the log
    request = json.loads(sys.stdin.readline())
    try:
        run = _open(request)
    except Exception as error:
        answer: dict[str, Any] = {"ok": False, "reason": f"{type(error).__name__}: {error}"}
    else:
        online = request["init"]["mode"] == "online"
        answer = {"ok": True, "url": run.url if online else None}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
    if answer["ok"]:
        _serve(run)


def _open(request: dict[str, Any]) -> Any:
    import wandb

    settings = wandb.Settings(
        console="off",
        silent=True,
        init_timeout=request["timeout_s"],
        disable_git=True,  # provenance.json has it, hashed
        x_save_requirements=False,
    )
    run = wandb.init(**request["init"], config=request["config"], settings=settings)
    for metric, axis in request["axes"].items():
        run.define_metric(axis, hidden=True)
        run.define_metric(metric, step_metric=axis)
    return run


def _serve(run: Any) -> None:
    """Take messages until the last; without one, the launcher has died and the run has failed."""
    exit_code = 1
    for line in sys.stdin:
        try:
            message = json.loads(line)
        except ValueError:  # the launcher was killed within a line
            break
        if "log" in message:
            run.log(message["log"])
        elif "summary" in message:
            run.summary.update(message["summary"])
        elif "finish" in message:
            exit_code = message["finish"]
            break
    run.finish(exit_code=exit_code)


if __name__ == "__main__":
    main()
