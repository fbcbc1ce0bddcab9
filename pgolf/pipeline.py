"""A run from configuration to result: data here, then two worker jobs, then the result.

documents - tokens - [train - ttt - quantize - pack] - [reload - evaluate] - result, report
  launcher             workers, the produce job         fresh workers
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from rich.console import Console

from pgolf import provenance
from pgolf.audit.seeds import record_run
from pgolf.auditing.runs import artifact_record, check_same_data, data_record
from pgolf.cache import in_use
from pgolf.clock import Clock
from pgolf.config import changed, check_world, load_config
from pgolf.data.view import validation_view
from pgolf.documents import tell_documents
from pgolf.errors import RunFailed, UserError, error_of
from pgolf.events import EventLog, read_events
from pgolf.files import explain_os_error, write_json
from pgolf.hardware import Devices
from pgolf.jobs import PRODUCE_STAGES, Config, evaluate_job, produce_job
from pgolf.launchers import Alone, Together, inside_torchrun
from pgolf.outcome import EVALUATE_SCORES, Outcome, read_scores, read_stages
from pgolf.prepare import Prepared, check_windows, prepare
from pgolf.report.page import write_report
from pgolf.report.table import print_result
from pgolf.runfolder import check_writable, describe_run, link_artifact, make_run_folder
from pgolf.sandbox.evaluation import hidden_of
from pgolf.say import Say
from pgolf.shipped import CODE_FILE, check_code, check_shippable, code_fingerprint, later_groups
from pgolf.stage import Stage
from pgolf.started import begin_run
from pgolf.tokenizer.store import open_tokenizer
from pgolf.tracking.follow import EventFollower
from pgolf.workers import die_with_parent

AUDIT_CODES = {0, 3, 4}  # pgolf audit: eligible, not eligible, undecided


def cache_folder() -> Path:
    """$PGOLF_CACHE, or ./cache."""
    return Path(provenance.environment("PGOLF_CACHE") or "cache").resolve()


def run(
    config: Config, overrides: list[str], on_success: Callable[[Path], None] | None = None
) -> float:
    """Run every stage that is not finished yet, write and print the result.

    Args:
        config: resolved and checked.
        overrides: as typed, for the record.
        on_success: called with the run folder in the end.

    Returns:
        final bits per byte, measured from the artifact.

    Raises:
        UserError: an input is wrong or cannot be read or written.
        RunFailed: a stage failed; finished ones are kept.
    """
    launchers = Together() if inside_torchrun() else Alone()
    devices = launchers.settle(instantiate(config["hardware"]).settle())
    check_world(config, devices)
    check_shippable(config)
    if isinstance(launchers, Together) and not launchers.is_main:
        return launchers.follow()
    try:
        result = run_main(config, overrides, devices, launchers, on_success)
    except BaseException as error:
        reason = error_of(error)
        if isinstance(reason, OSError):  # a full disk or a folder that went away
            reason = explain_os_error(reason, Path(reason.filename or config["out_dir"]))
        launchers.end({"failed": str(reason) or type(reason).__name__})
        if reason is error:
            raise
        raise reason from error
    launchers.end({"bpb": result["bpb"]["final"]["bpb"]})
    return float(result["bpb"]["final"]["bpb"])


def run_main(
    config: Config,
    overrides: list[str],
    devices: Devices,
    launchers: Alone | Together,
    on_success: Callable[[Path], None] | None,
) -> dict[str, Any]:
    """The run itself, in the only launcher or in that of rank 0; returns the result."""
    started = begin_run()
    source, tokenizer = checked_inputs(config)
    instantiate(config["tracking"], Say(None)).check()
    cache, out_dir = cache_folder(), Path(config["out_dir"])
    check_writable(out_dir, "out_dir=...")
    check_writable(cache, "the environment variable PGOLF_CACHE")
    folder = make_run_folder(out_dir, config["name"])
    say = Say(folder / "log.txt")
    say(f"run {folder.name} in {folder}")
    tracker = instantiate(config["tracking"], say)
    facts = provenance.collect()
    describe_run(folder, config, overrides, facts)
    record_run(folder, seed=config["seed"], config_hash=provenance.config_hash(config), bpb=None)
    job = Run(config, overrides, devices, launchers, folder, cache, say)
    job.started = started
    with in_use(cache), tracked(tracker, job, config):
        job.prepares = time.time()
        prepared = prepare(source, tokenizer, cache, job.events, job.clock, say)
        job.result = job.work(prepared, facts)
        write_json(folder / "result.json", job.result)
        record_result(folder, job.result)
        if config["audit"]["probes"]:
            job.result = job.audit()
        else:
            write_report(folder)
    print_result(job.result, Console(), folder)
    if on_success is not None:
        on_success(folder)
    return job.result


def record_result(folder: Path, result: dict[str, Any]) -> None:
    """Add the score to the list of all runs beside the run folder."""
    bpb = result["bpb"]["final"]["bpb"]
    record_run(folder, seed=result["seed"], config_hash=result["config_hash"], bpb=bpb)


def checked_inputs(config: Config) -> tuple[Any, Any]:
    """Data source and tokenizer; raises UserError where their files are missing or do not fit."""
    source, tokenizer = instantiate(config["data"]), instantiate(config["tokenizer"])
    source.check()
    tokenizer.check()
    return source, tokenizer


def evaluate_again(run_folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Score a finished run's artifact once more, in fresh workers; the run folder is not changed.

    Args:
        overrides: `hardware=OPTION`, and values of hardware and eval, e.g. `eval.stride=32`, and of
            ttt where it adapts while scoring.

    Raises:
        UserError: no run folder, its artifact is damaged, or an override that does not fit.
    """
    artifact = run_folder / "artifact"
    if (run_folder / "config.yaml").is_file() and not artifact.is_dir():
        raise UserError(f"{run_folder} has no artifact: it is an imported log, or not finished")
    config, cache = load_config(run_folder), cache_folder()
    check_code(artifact / CODE_FILE)
    config = changed(config, overrides, later_groups(config))
    devices = instantiate(config["hardware"]).settle()
    source, tokenizer = checked_inputs(config)
    with tempfile.TemporaryDirectory() as temporary:
        job = Run(config, [], devices, Alone(), Path(temporary), cache, Say(None))
        prepared = prepare(source, tokenizer, cache, job.events, job.clock, job.say)
        check_same_data(run_folder, prepared.folder)
        check_windows("validation", prepared.manifest.validation.num_tokens, config, "eval")
        final: dict[str, Any] = job.evaluate(artifact.resolve(), prepared)["final"]
    return final


@contextmanager
def tracked(tracker: Any, job: Run, config: Config) -> Iterator[None]:
    """Forward events to the tracker meanwhile; it is told the result, or that there is none."""
    tracker.start(job.folder.name, config["name"], config, job.folder)
    try:
        with EventFollower(job.folder / "events.jsonl", [tracker], job.say):
            yield
    finally:
        tracker.finish(job.result)


class Run:
    """One run on its way: the folder, the clock, and what is known so far."""

    def __init__(
        self,
        config: Config,
        overrides: list[str],
        devices: Devices,
        launchers: Alone | Together,
        folder: Path,
        cache: Path,
        say: Say,
    ) -> None:
        self.config, self.overrides, self.devices = config, overrides, devices
        self.launchers = launchers
        self.folder, self.cache, self.say = folder, cache, say
        self.events, self.clock = EventLog(folder / "events.jsonl"), Clock({})
        self.result: dict[str, Any] | None = None
        # Unix seconds; what lies outside the clock's phases is charged by them.
        self.started = self.prepares = time.time()

    def work(self, prepared: Prepared, facts: dict[str, Any]) -> dict[str, Any]:
        """Both worker jobs, and the result from what they left."""
        prepared.check(self.config, self.devices.num_workers)
        edges = [self.started, self.prepares, time.time()]
        keys = self.produce(prepared)
        edges.append(time.time())
        packed = Stage(self.cache, "pack", keys["pack"]).folder / "artifact"
        artifact = link_artifact(packed, self.folder)
        self.events.emit("artifact", "evaluate", files=artifact_record(artifact))
        scores = self.evaluate(artifact, prepared)
        launched = self.launch_seconds([*edges, time.time()])
        events = list(read_events(self.folder / "events.jsonl"))
        stages = read_stages(self.cache, keys)
        facts = {**facts, **_devices_seen(events), **self.inputs(prepared, stages)}
        facts["sandbox"] = scores["sandbox"]
        write_json(self.folder / "provenance.json", facts)
        return Outcome(
            config=self.config,
            overrides=self.overrides,
            folder=self.folder,
            manifest=prepared.manifest,
            stages=stages,
            reused=[*prepared.reused, *_reused(events)],
            scores=scores,
            seconds={**prepared.seconds, **self.start_seconds(events, scores), **launched},
            provenance=facts,
        ).result()

    def inputs(self, prepared: Prepared, stages: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """Where the data are, and the hashes of what decides the numbers; for the auditor."""
        fingerprint = prepared.manifest.tokenizer_fingerprint
        return {
            "data": data_record(prepared.folder, prepared.documents, fingerprint),
            "code_sha256": code_fingerprint(self.config),
            "calibration": stages["pack"]["calibration"],
        }

    def launch_seconds(self, edges: list[float]) -> dict[str, float]:
        """Seconds of the launcher outside its data stages and its jobs, and a `meter` event.

        Args:
            edges: Unix seconds: the process's start, the beginning of the data stages, their end,
                the end of the produce job and that of the evaluate job.
        """
        started, prepares, produces, produced, evaluated = edges
        produce_s, evaluate_s = (self.clock.seconds(name) for name in ("produce", "evaluate"))
        launched = {
            "launch_produce": max(0.0, prepares - started + produced - produces - produce_s),
            "launch_evaluate": max(0.0, evaluated - produced - evaluate_s),
        }
        spans = {
            **launched,
            "data": produces - prepares,
            "produce": produce_s,
            "evaluate": evaluate_s,
        }
        self.events.emit("meter", "run", started=started, ended=evaluated, spans=spans)
        return launched

    def audit(self) -> dict[str, Any]:
        """The result with the verdict of the auditor, who works in a fresh process and reports.

        Raises:
            RunFailed: the auditor ended without one.
        """
        command = [sys.executable, "-P", "-m", "pgolf.cli", "audit", str(self.folder)]
        root = str(provenance.ROOT)
        paths = [root, *filter(None, [provenance.environment("PYTHONPATH")])]
        # Spinning threads would make it thirty times slower where another process wants a core.
        environment = provenance.environment_with({"OMP_WAIT_POLICY": "PASSIVE"})
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        done = subprocess.run(
            [*command, "--as-configured", "--json"],
            env=environment,
            stdout=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
            check=False,
        )
        path = self.folder / "result.json"
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if done.returncode not in AUDIT_CODES or "audit" not in result:
            raise RunFailed(
                f"the audit of {self.folder} ended with exit code {done.returncode}: see above; "
                "audit=none leaves it out, the run itself is finished"
            )
        return result

    def produce(self, prepared: Prepared) -> dict[str, str]:
        """Train, adapt, quantize, pack in workers; returns the stages' keys."""
        job = produce_job(
            self.config,
            self.devices,
            run_folder=self.folder,
            cache=self.cache,
            data=prepared.folder,
            data_key=prepared.key,
            tokenizer_fingerprint=prepared.manifest.tokenizer_fingerprint,
        )
        with self.clock.phase("produce", "train"):
            self.run_job("produce", job)
        return dict(job["keys"])

    def evaluate(self, artifact: Path, prepared: Prepared) -> dict[str, Any]:
        """Score the artifact in fresh workers that run the shipped code."""
        view, output = self.folder / "work" / "validation", self.folder / "work" / "scores.json"
        documents = output.with_name("documents.npy")
        tokenizer = open_tokenizer(prepared.folder / "tokenizer")
        validation_view(prepared.folder, view)
        job = evaluate_job(
            self.config,
            self.devices,
            run_folder=self.folder,
            cache=self.cache,
            artifact=artifact,
            validation=view,
            tokenizer_fingerprint=prepared.manifest.tokenizer_fingerprint,
            bos_id=tokenizer.bos_id,
            output=output,
            sandbox=self.hidden(prepared),
            documents=documents,
        )
        with self.clock.phase("evaluate", "evaluate"):
            held = self.run_job("evaluate", job, str(artifact / CODE_FILE))
        scores = {**read_scores(output), "sandbox": held}
        self.events.emit("sandbox", "evaluate", **held)
        tell_documents(documents, view, tokenizer, scores["final"], self.events)
        shutil.rmtree(self.folder / "work")
        return scores

    def hidden(self, prepared: Prepared) -> dict[str, Any] | None:
        """What the evaluation must not open; None without a sandbox."""
        if self.config.get("sandbox") == "off":
            return None
        return hidden_of(self.config, self.cache, prepared.folder, prepared.documents)

    def run_job(
        self, name: str, job: dict[str, Any], extra_path: str | None = None
    ) -> dict[str, Any]:
        """Run the workers of a job; returns the layers that held them."""
        path = self.folder / "work" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        write_json(path, job)
        return self.launchers.run_job(path, self.devices, extra_path)

    def start_seconds(
        self, events: list[dict[str, Any]], scores: dict[str, Any]
    ) -> dict[str, float]:
        """Seconds of both jobs outside their stages: starting processes and what lies between.

        What the produce job waited for another run's stage, which is charged as reused, is apart.
        """
        in_stages, waited = 0.0, 0.0
        for event in events:
            if event["event"] == "stage" and event["stage"] in PRODUCE_STAGES:
                waited += event.get("waited_s", 0.0)
            if event["event"] == "stage" and event.get("status") == "done":
                in_stages += event["seconds"] if event["stage"] in PRODUCE_STAGES else 0.0
            elif event["event"] == "warm_up":
                in_stages += event["seconds"]
            elif event["event"] == "resume":  # an earlier process used these seconds
                in_stages -= event["elapsed_s"] + event["warm_up_s"]
        scored = scores["load_s"]
        scored += sum(scores[name]["seconds"] for name in EVALUATE_SCORES if name in scores)
        return {
            "start_produce": max(0.0, self.clock.seconds("produce") - in_stages - waited),
            "wait": waited,
            "start_evaluate": max(0.0, self.clock.seconds("evaluate") - scored),
        }


def _reused(events: list[dict[str, Any]]) -> list[str]:
    stages = [e for e in events if e["event"] == "stage" and e.get("status") == "reused"]
    return [event["stage"] for event in stages if event["stage"] in PRODUCE_STAGES]


def _devices_seen(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Names of the GPUs and the attention backend, as the workers reported them."""
    seen: dict[str, Any] = {}
    for event in events:
        if event["event"] == "devices":
            seen = {"gpus": event["gpus"], "attention": event["attention"]}
    return seen
