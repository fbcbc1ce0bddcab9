"""`tracking=wandb`: a run's curves and figures for Weights & Biases, never at the run's expense."""

from __future__ import annotations

import importlib.util
import queue
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pgolf.errors import UserError
from pgolf.provenance import environment
from pgolf.say import TERMINAL
from pgolf.tracking.metrics import AXES, metrics_of, summary_of
from pgolf.tracking.wandb_account import find_account, probe
from pgolf.tracking.wandb_process import WandbProcess
from pgolf.tracking.wandb_resume import ENDS, WandbRun, claim

CHECK_TIMEOUT_S = 1.5
# On a busy machine wandb itself takes seconds to import; this much is no sign of a lost network.
START_ALLOWANCE_S = 20.0
ARTIFACT_FAILED = 5  # exit code of wandb_child.py
REMEDY = "use tracking.mode=offline (upload later), tracking.mode=auto or tracking=none"


class WandbTracking:
    """Sends events to a process of its own that talks to wandb; nothing here waits for a network.

    Args:
        say: where the one line about where the run is tracked goes, and a warning if there is one.
        project: W&B project.
        entity: user or team; None takes the key's default.
        mode: "auto" is online where a key is found and the server answers, else offline (or what
            WANDB_MODE says); "online" makes `check` raise where it cannot be; "offline" writes
            files that `wandb sync` uploads; "disabled" does nothing.
        group: what runs are grouped by; None takes the run's name, so seeds lie together.
        tags, job_type: as in W&B.
        upload_artifact: send the artifact's folder, too, as one of W&B's of type "model".
        timeout_s: longest wait for the server when a run starts.
        finish_timeout_s: longest wait for uploads when it ends.
    """

    def __init__(
        self,
        say: Callable[[str], None] = TERMINAL,
        *,
        project: str,
        entity: str | None = None,
        mode: Literal["auto", "online", "offline", "disabled"] = "auto",
        group: str | None = None,
        tags: list[str] | None = None,
        job_type: str = "run",
        upload_artifact: bool = False,
        timeout_s: float = 8.0,
        finish_timeout_s: float = 30.0,
    ) -> None:
        self._say, self.mode = say, mode
        self._labels = {"project": project, "entity": entity, "job_type": job_type}
        self._group, self._tags = group, list(tags or [])
        self.upload_artifact = upload_artifact
        self.timeout_s, self.finish_timeout_s = timeout_s, finish_timeout_s
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        # wandb's own file of an online run is lost when it has to be killed, so all is kept here.
        self._sent: list[dict[str, Any]] = []
        self._all_sent = False
        self._process: WandbProcess | None = None
        self._thread: threading.Thread | None = None
        self._folder = Path()
        self._run: WandbRun | None = None
        self._late, self._over = threading.Event(), threading.Event()

    def check(self) -> None:
        """Raises UserError, within 2 s, when `mode=online` cannot be had."""
        if self.mode != "online":
            return
        if importlib.util.find_spec("wandb") is None:
            raise UserError("tracking.mode=online but wandb is not installed: pip install wandb")
        account = find_account()
        if not account.usable:
            raise UserError(
                f"tracking.mode=online but there is no API key for {account.url}: "
                f"run `wandb login` or set WANDB_API_KEY, or {REMEDY}"
            )
        fault = probe(account, CHECK_TIMEOUT_S)
        if fault is not None:
            raise UserError(
                f"tracking.mode=online but W&B at {account.url} cannot be used: {fault}; check the "
                f"network, the key and WANDB_BASE_URL, or {REMEDY}"
            )

    def start(self, run_id: str, name: str, config: dict[str, Any], run_folder: Path) -> None:
        """Begin a run in the background; returns at once."""
        if self.mode == "disabled":
            return
        self._folder = run_folder.resolve() / "wandb"
        own_id = re.sub(r"[^\w.-]", "-", run_id)
        with suppress(OSError):  # where no file can be written, wandb says so below
            self._run = claim(run_folder.resolve(), own_id)
            for curves in self._run.catch_up():
                self._messages.put({"log": curves})
        seed = config.get("seed")
        init = {
            **self._labels,
            "id": own_id if self._run is None else self._run.id,
            "resume": "allow" if self._run is not None and self._run.resumed else None,
            "name": name if seed is None else f"{name} seed {seed}",
            "group": self._group or name,
            "tags": self._tags,
            "dir": str(run_folder.resolve()),
        }
        request = {
            "init": init, "config": config, "axes": AXES, "timeout_s": self.timeout_s,
            "ends": str(run_folder.resolve() / ENDS),
        }  # fmt: skip
        self._thread = threading.Thread(
            target=self._serve, args=(request,), name="wandb-tracking", daemon=True
        )
        self._thread.start()

    def log(self, event: dict[str, Any]) -> None:
        """Hand over an event; returns at once."""
        curves, summary = metrics_of(event)
        if curves and (self._run is None or self._run.is_new(curves)):
            self._messages.put({"log": curves})
        if summary:
            self._messages.put({"summary": summary})

    def finish(self, result: dict[str, Any] | None) -> None:
        """Hand over the result (None: the run failed) and wait for the rest, for a limited time."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if result is not None:
            self._messages.put({"summary": summary_of(result)})
            if self.upload_artifact:
                self._messages.put({"artifact": artifact_of(result, self._folder.parent)})
        self._messages.put({"finish": 0 if result is not None else 1})
        self._messages.put(None)
        try:
            thread.join(self.finish_timeout_s)
            if thread.is_alive():  # uploads hang: the thread writes all to an offline run instead
                self._late.set()
                self._stop_process()
                thread.join(START_ALLOWANCE_S)
        finally:
            self._over.set()
            if thread.is_alive():
                self._stop_process()
                self._say(f"tracking: W&B did not end and was stopped, {self._details()}")
            if self._run is not None:
                self._run.release()

    # -- in the background ---------------------------------------------------------------------

    def _serve(self, request: dict[str, Any]) -> None:
        """Log the run in the mode that is possible; where that fails, log all of it offline."""
        try:
            mode, why = self._choose_mode()
            for attempt in dict.fromkeys((mode, "offline")):
                if attempt == "disabled" or self._over.is_set():
                    return
                request["init"]["mode"] = attempt
                fault = self._attempt(request, why)
                if fault is None:
                    return
                why = fault
            self._warn(f"tracking: W&B failed ({why}); the run goes on, {self._details()}")
        except Exception as error:
            self._warn(f"tracking: W&B failed ({error}); the run goes on without it")

    def _attempt(self, request: dict[str, Any], why: str) -> str | None:
        """Open a run and log everything to it until the end; returns what went wrong, or None."""
        process = self._process = WandbProcess(self._folder / "pgolf.log")
        try:
            answer = process.open_run(request, self.timeout_s + START_ALLOWANCE_S)
            if not answer["ok"]:
                return str(answer["reason"]).strip().splitlines()[0]
            self._announce(request["init"]["mode"], why, answer)
            for message in self._all_messages():
                process.send(message)
            code = process.wait()
            if code == ARTIFACT_FAILED:
                self._warn(f"tracking: W&B has not got the artifact, {self._details()}")
            if code in (0, ARTIFACT_FAILED):
                return None
        except OSError:
            pass  # it has ended before its input did
        finally:
            process.kill()
        late = f"uploads did not finish within {self.finish_timeout_s:g} s"
        return late if self._late.is_set() else "its process ended"

    def _all_messages(self) -> Iterator[dict[str, Any]]:
        """What an earlier attempt was sent, then what comes, until finish()."""
        yield from list(self._sent)
        while not self._all_sent:
            message = self._messages.get()
            if message is None:
                self._all_sent = True
            else:
                self._sent.append(message)
                yield message

    def _choose_mode(self) -> tuple[str, str]:
        """The mode that is possible now, and why it is offline."""
        wanted = environment("WANDB_MODE") if self.mode == "auto" else None
        if wanted in ("offline", "dryrun") or self.mode == "offline":
            return "offline", ""
        if wanted == "disabled":
            return "disabled", ""
        account = find_account()
        if not account.usable:
            return "offline", "no API key found"
        fault = probe(account, self.timeout_s)
        if fault is not None:
            return "offline", f"{account.url} cannot be used: {fault}"
        return "online", ""

    def _announce(self, mode: str, why: str, answer: dict[str, Any]) -> None:
        if mode == "online":
            goes_on = self._run is not None and self._run.resumed
            self._warn(f"tracking: W&B online{', going on' * goes_on}, {answer['url']}")
            return
        reason = f" ({why})" if why else ""
        sync = f"wandb sync {_short(self._folder)}/offline-run-*"
        self._warn(f"tracking: W&B offline{reason}; upload later: {sync}")

    def _warn(self, text: str) -> None:
        if not self._over.is_set():
            self._say(text)

    def _details(self) -> str:
        return f"details in {_short(self._folder)}/pgolf.log"

    def _stop_process(self) -> None:
        if self._process is not None:
            self._process.kill()


def artifact_of(result: dict[str, Any], run_folder: Path) -> dict[str, Any]:
    """The folder that would be shipped, for `wandb.Artifact`."""
    metadata = {
        "bpb": result["bpb"]["final"]["bpb"],
        "total_bytes": result["artifact"]["total_bytes"],
        "eligible": result["eligibility"]["eligible"],
        "seed": result["seed"],
        "config_hash": result["config_hash"],
        "run_id": result["run_id"],
    }
    name = re.sub(r"[^\w.-]", "-", f"{result['name']}-seed{result['seed']}")
    return {"name": name, "folder": str(run_folder / "artifact"), "metadata": metadata}


def _short(path: Path) -> str:
    """The path from the current folder where it lies below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
