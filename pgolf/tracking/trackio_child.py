"""The process that talks to trackio: JSON lines as in wandb_child.py, `{"log": {...}}` each.

It imports nothing from pgolf, and ends by itself when its input ends.
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
    os.dup2(2, 1)  # whatever the library prints belongs into the log
    request = json.loads(sys.stdin.readline())
    answer: dict[str, Any] = {"ok": True, "url": None}
    try:
        run = _open(request)
    except Exception as error:
        answer = {"ok": False, "reason": f"{type(error).__name__}: {error}"}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
    if not answer["ok"]:
        return
    for line in sys.stdin:
        message = json.loads(line)
        if message.get("log"):
            run.log(message["log"])
        if "finish" in message:
            break
    run.finish()


def _open(request: dict[str, Any]) -> Any:
    import trackio

    return trackio.init(
        **request["init"],
        config=request["config"],
        embed=False,
        auto_log_gpu=False,  # the run's events have what matters
        auto_log_cpu=False,
    )


if __name__ == "__main__":
    main()
