"""The process that talks to wandb: reads JSON lines, answers with one line once the run is open.

A process of its own because wandb may block for half a minute where the network is gone, keeps
threads and exit hooks, and prints: here it can be waited for, or killed, without hurting a run.
It imports nothing from pgolf, and ends by itself when its input ends.

    in   {"init": {...}, "config": {...}, "axes": {"train/*": "step"}, "timeout_s": 8.0,
          "ends": file for how far each axis went, where a run ends without a result}
    in   {"log": {...}}   {"summary": {...}}   {"artifact": {...}}   {"finish": exit code}
    out  {"ok": true, "url": ... or null} or {"ok": false, "reason": ...}
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

ARTIFACT_FAILED = 5  # exit code of this process where all went well but for the artifact


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
    if answer["ok"] and not _serve(run, request):
        sys.exit(ARTIFACT_FAILED)


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


def _serve(run: Any, request: dict[str, Any]) -> bool:
    """Take messages until the last; without one, the launcher has died and the run has failed.

    How far each axis went is written then, for the run that continues this one. Returns whether
    the artifact was sent, if there was one.
    """
    exit_code, upload, ends = 1, None, dict[str, float]()
    for line in sys.stdin:
        try:
            message = json.loads(line)
        except ValueError:  # the launcher was killed within a line
            break
        if "log" in message:
            run.log(message["log"])
            for axis in {*request["axes"].values()} & {*message["log"]}:
                ends[axis] = max(message["log"][axis], ends.get(axis, 0.0))
        elif "summary" in message:
            run.summary.update(message["summary"])
        elif "artifact" in message:
            upload = message["artifact"]
        elif "finish" in message:
            exit_code = message["finish"]
            break
    has_sent = upload is None or _upload(run, **upload)
    run.finish(exit_code=exit_code)
    if exit_code:  # only now all of it has arrived, or lies in the file of an offline run
        with open(request["ends"], "w", encoding="utf-8") as file:
            json.dump(ends, file)
    return has_sent


def _upload(run: Any, name: str, folder: str, metadata: dict[str, Any]) -> bool:
    """Send a folder; says why not in the log."""
    import wandb

    try:
        artifact = wandb.Artifact(name, type="model", metadata=metadata)
        artifact.add_dir(folder)
        run.log_artifact(artifact)
        if not run.offline:
            artifact.wait()
    except Exception as error:
        print(f"artifact: {type(error).__name__}: {error}", flush=True)
        return False
    return True


if __name__ == "__main__":
    main()
