"""`pgolf track sync FOLDER...`: send finished runs that W&B's tracker logged offline.

Looks below each folder for run folders with a result; what a server has been sent already is left
out. The server and the key are those that wandb itself would use (WANDB_BASE_URL, WANDB_API_KEY).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pgolf.commands.output import Answer
from pgolf.errors import UserError
from pgolf.say import TERMINAL

HELP = "send runs to W&B that were logged offline"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows the command's name."""
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="default: outputs")
    parser.add_argument("--unfinished", action="store_true", help="also runs without a result")
    parser.add_argument("--again", action="store_true", help="also what has been sent already")
    parser.add_argument(
        "--timeout", type=float, default=300.0, metavar="SECONDS", help="longest wait for each run"
    )


def run(options: argparse.Namespace) -> Answer:
    """What was sent, what was left out and why, and what failed."""
    from pgolf.tracking import wandb_upload as upload

    if not options.timeout > 0:
        raise UserError(f"--timeout {options.timeout:g}: expected a number of seconds above 0")
    folders = options.folders or [Path("outputs")]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder: name run folders, or a folder of runs")
    found = list(dict.fromkeys(p for f in folders for p in upload.offline_runs(f.resolve())))
    answer: Answer = {"sent": [], "unfinished": [], "sent_before": [], "failed": []}
    if not found:
        return answer
    account = upload.usable_account()
    gone: str | None = None  # why the server no longer answers
    for number, offline in enumerate(found, start=1):
        name = str(upload.run_folder_of(offline))
        if not (upload.is_finished(offline) or options.unfinished):
            answer["unfinished"].append(name)
        elif upload.is_sent(offline, account.url) and not options.again:
            answer["sent_before"].append(name)
        elif gone is not None:
            reason = f"not tried: {account.url} no longer answers ({gone})"
            answer["failed"].append({"run": name, "reason": reason})
        else:
            TERMINAL(f"sending {number} of {len(found)}: {name}")
            fault = upload.send(offline, account, options.timeout)
            if fault is None:
                answer["sent"].append(name)
            else:
                answer["failed"].append({"run": name, "reason": fault})
                gone = upload.fault_of(account)
    return {**answer, "server": account.url}


def show(answer: Answer) -> None:
    """A line for each run, and a count."""
    for name in answer["sent"]:
        print(f"sent         {name}")
    for name in answer["unfinished"]:
        print(f"unfinished   {name}: left out (--unfinished sends it)")
    for failure in answer["failed"]:
        print(f"failed       {failure['run']}: {failure['reason']}")
    before = len(answer["sent_before"])
    server = f" to {answer['server']}" if "server" in answer else ""
    print(f"{len(answer['sent'])} sent{server}, {before} sent before", end="")
    print(f", {len(answer['failed'])} failed" if answer["failed"] else "")


def exit_code(answer: Answer) -> int:
    """1 when a run could not be sent."""
    return 1 if answer["failed"] else 0
