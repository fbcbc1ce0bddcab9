"""Faults of seconds, and of what a run writes down."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import yaml

from tests.audit.faults import change_config, fault
from tests.audit.made import Made

# Seconds


@fault("time not charged", "a second between stages", "METER")
def second(made: Made) -> None:
    change_seconds(made, {"start_produce": -1.0})


def change_seconds(made: Made, by: dict[str, float]) -> None:
    result = made.result()
    for stage, seconds in by.items():
        result["seconds"][stage] = round(result["seconds"].get(stage, 0.0) + seconds, 3)
    for budget in result["budgets"]:
        budget["charged_s"] = round(sum(result["seconds"][s] for s in budget["what"]), 3)
    made.save(result)


@fault("time not charged", "quantization after the clock", "METER")
def quantized_offline(made: Made) -> None:
    result = made.result()
    train, seconds = result["budgets"][0], result["seconds"]["pack"]
    train["what"].remove("pack")
    train["charged_s"] -= seconds
    offline = {"name": "offline", "limit_s": None, "charged_s": seconds, "what": ["pack"]}
    result["budgets"].append(offline)
    made.save(result)


@fault("time not charged", "a stage that took longer than is charged", "METER")
def longer(made: Made) -> None:
    events = made.events()
    for event in events:
        if event["event"] == "stage" and event["stage"] == "train" and "seconds" in event:
            event["seconds"] += 50.0
    made.save_events(events)


@fault("time not charged", "over the budget", "METER")
def over_budget(made: Made) -> None:
    change_seconds(made, {"train": 700.0})


@fault("more: seconds", "the meter starts later, and its spans are shorter", "METER")
def late_start(made: Made) -> None:
    events = made.events()
    for event in events:
        if event["event"] == "meter":
            event["started"] += 7.0
            event["spans"]["produce"] -= 7.0
    made.save_events(events)
    change_seconds(made, {"start_produce": -7.0})


@fault("more: seconds", "half of the produce job is left out of events and result", "METER")
def short_produce(made: Made) -> None:
    events = made.events()
    for event in events:
        if event["event"] == "stage" and event["stage"] == "train":
            event["time"] -= 300.0
    made.save_events(events)


@fault("more: seconds", "the final score's seconds are charged as a diagnostic", "METER")
def moved_to_diagnostic(made: Made) -> None:
    change_seconds(made, {"quantized": 60.0})


@fault("more: seconds", "a second of the start is said to be waiting for another run", "METER")
def said_waiting(made: Made) -> None:
    result = made.result()
    next(b for b in result["budgets"] if b["name"] == "diagnostic")["what"].append("wait")
    made.save(result)
    change_seconds(made, {"start_produce": -1.0, "wait": 1.0})


@fault("more: seconds", "a reused stage is charged nothing", "METER")
def reused_for_nothing(made: Made) -> None:
    result, events = made.result(), made.events()
    result["reused"] = ["train"]
    for event in events:
        if event["event"] == "stage" and event["stage"] == "train" and "seconds" in event:
            event |= {"status": "reused", "seconds": 5.0}
    made.save(result)
    made.save_events(events)
    change_seconds(made, {"train": -result["seconds"]["train"]})


@fault("more: seconds", "a stage of negative seconds", "METER")
def negative(made: Made) -> None:
    change_seconds(made, {"start_produce": -1000.0, "train": 990.0})


@fault("more: seconds", "a stage that ran is said to be reused", "METER")
def said_reused(made: Made) -> None:
    result = made.result()
    result["reused"] = ["train"]
    made.save(result)


# The record


@fault("log not from the shipped code, numbers without a run", "the score is edited", "PROV")
def edited(made: Made) -> None:
    result = made.result()
    for key in ("nats", "bpb", "nats_per_token"):
        result["bpb"]["final"][key] *= 0.99
    made.save(result)


@fault("log not from the shipped code, numbers without a run", "BPB rounded down", "RECOUNT")
def rounded(made: Made) -> None:
    result = made.result()
    result["bpb"]["final"]["bpb"] = np.floor(100 * result["bpb"]["final"]["bpb"]) / 100
    made.save(result)


@fault("log not from the shipped code, numbers without a run", "no event of a score", "PROV")
def no_events(made: Made) -> None:
    made.save_events([event for event in made.events() if event["event"] != "score"])


@fault("log not from the shipped code, numbers without a run", "another configuration", "PROV")
def other_configuration(made: Made) -> None:
    config = yaml.safe_load((made.run / "config.yaml").read_text())
    config["scale"]["num_steps"] = 5
    (made.run / "config.yaml").write_text(yaml.safe_dump(config))


@fault("more: record", "a second, better final score in the events", "PROV")
def second_score(made: Made) -> None:
    events, result = made.events(), made.result()
    final = next(e for e in events if e["event"] == "score" and e["name"] == "final")
    better = {**final, "nats": final["nats"] * 0.99, "bpb": final["bpb"] * 0.99}
    result["bpb"]["final"] |= {key: better[key] for key in ("nats", "bpb")}
    made.save(result)
    made.save_events([*events, better])


@fault("more: record", "score and events edited in step, not the list of runs", "SEEDS")
def edited_everywhere(made: Made) -> None:
    edited(made)
    events, final = made.events(), made.result()["bpb"]["final"]
    for event in events:
        if event["event"] == "score" and event["name"] == "final":
            event |= {key: final[key] for key in ("nats", "bpb", "nats_per_token")}
    made.save_events(events)


@fault("more: record", "a measured score that is no number", "PROV")
def no_number(made: Made) -> None:
    events = made.events()
    for event in events:
        if event["event"] == "score" and event["name"] == "quantized":
            event["nats"] = float("nan")
    made.save_events(events)


@fault("more: record", "other data than provenance.json has", "PROV")
def other_data(made: Made) -> None:
    result = made.result()
    result["provenance"]["data"] |= {"folder": str(made.data)}
    made.save(result)


@fault("more: record", "overrides that nobody typed", "PROV")
def other_overrides(made: Made) -> None:
    result = made.result()
    result["overrides"] = result["overrides"][1:]
    made.save(result)


@fault("more: record", "another configuration, not in the list of runs", "SEEDS")
def configuration_not_listed(made: Made) -> None:
    listed = (made.run.parent / "runs.jsonl").read_text()
    scale = yaml.safe_load((made.run / "config.yaml").read_text())["scale"]
    change_config(made, scale={**scale, "num_steps": 5})
    (made.run.parent / "runs.jsonl").write_text(listed)


@fault("more: record", "another seed is named", "PROV")
def other_seed(made: Made) -> None:
    result = made.result()
    result["seed"] = 42
    made.save(result)


@fault("more: record", "another machine is named", "PROV")
def other_machine(made: Made) -> None:
    result = made.result()
    result["provenance"]["gpus"] = ["NVIDIA H100 80GB HBM3"] * 8
    made.save(result)


@fault("best of N seeds or runs", "a worse run is deleted", "SEEDS")
def deleted(made: Made) -> None:
    _another_run(made, 9.0)


@fault("best of N seeds or runs", "the best of two of the same seed", "SEEDS")
def best_of_two(made: Made) -> None:
    shutil.copytree(made.run, made.run.parent / _another_run(made, 9.0))


@fault("best of N seeds or runs", "a worse run is taken out of the list", "SEEDS")
def unlisted(made: Made) -> None:
    shutil.copytree(made.run, made.run.parent / "20991231-000000-0000")


def _another_run(made: Made, bpb: float) -> str:
    path: Path = made.run.parent / "runs.jsonl"
    row = json.loads(path.read_text().splitlines()[0])
    name = "20260101-000000-0000"
    with open(path, "a") as file:
        file.write(json.dumps({**row, "run_id": name, "bpb": bpb}) + "\n")
    return name
