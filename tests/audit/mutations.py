"""Faults to put into a clean run: one function each, with the class that it stands for.

They are refused in `test_mutations.py`, and counted by `python -m tests.audit.table`.
"""

from __future__ import annotations

import base64
import json
import shutil
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml
import zstandard

from pgolf.audit.pieces import read_pieces
from pgolf.provenance import config_hash
from tests.audit.made import Made, training_of


@dataclass(frozen=True)
class Mutation:
    """A fault.

    Args:
        group: class of the faults that are known, or "more" for those that nobody published.
        how: what is done, in words.
        probe: that has to refuse it.
        run: which run it is put into, "fixed" or "phased".
        mode: option of conf/audit whose settings the probes have.
        apply: does it.
    """

    group: str
    how: str
    probe: str
    apply: Callable[[Made], None]
    run: str = "fixed"
    mode: str = "quick"


RUN_MUTATIONS: list[Mutation] = []


def fault(group: str, how: str, probe: str, run: str = "fixed", mode: str = "quick") -> Any:
    """Put a function into the list."""

    def add(apply: Callable[[Made], None]) -> Callable[[Made], None]:
        RUN_MUTATIONS.append(Mutation(group, how, probe, apply, run, mode))
        return apply

    return add


# Bytes


def _pieces(made: Made) -> Any:
    return read_pieces(made.data / "tokenizer")


@fault("leading space counted twice", "sidecar, manifest and score in step", "RECOUNT")
def spaces_twice(made: Made) -> None:
    ids, pieces = made.values(), _pieces(made)
    made.rewrite(made.values(True) + [pieces.has_space(t) for t in ids], sidecar=True)


@fault("no space piece, or corrupted", "spaces count nothing", "RECOUNT")
def spaces_never(made: Made) -> None:
    ids, pieces = made.values(), _pieces(made)
    spaces = np.array([pieces.has_space(t) for t in ids]) & (made.values(True) > 0)
    made.rewrite(made.values(True) - spaces, sidecar=True)


@fault("byte-fallback pieces counted as 3", "sidecar", "RECOUNT")
def three_bytes(made: Made) -> None:
    is_byte = _pieces(made).byte[made.values()] >= 0
    made.rewrite(np.where(is_byte, 3, made.values(True)), sidecar=True)


@fault("case controls counted", "3 bytes for each control", "RECOUNT")
def controls(made: Made) -> None:
    pieces = _pieces(made)
    counted = np.array([pieces.has_control(t) for t in made.values()])
    made.rewrite(made.values(True) + 3 * counted, sidecar=True)


@fault("constant bytes per token", "4 for each", "RECOUNT")
def constant(made: Made) -> None:
    ids = made.values()
    made.rewrite(np.where(ids == ids[0], 0, 4), sidecar=True)


@fault("more: bytes", "characters are counted, not bytes", "RECOUNT")
def characters(made: Made) -> None:
    ids, pieces, counts = made.values(), _pieces(made), made.values(True).astype(np.int64)
    borders = _borders(made)
    for start, end in pairwise(borders.tolist()):
        text, _ = pieces.decode(ids[start + 1 : end])
        for place in range(start, end):
            left = int(counts[start:end].sum()) - len(text)
            counts[place] -= min(left, max(0, counts[place] - 1))
    made.rewrite(counts, sidecar=True)


@fault("more: bytes", "a byte more in one document", "RECOUNT")
def one_document(made: Made) -> None:
    counts = made.values(True)
    counts[int(np.flatnonzero(made.values() == made.values()[0])[5]) + 4] += 1
    made.rewrite(counts, sidecar=True)


@fault("lossy text scored as if raw", "documents of before a casefold", "ROUNDTRIP")
def lossy(made: Made) -> None:
    change_documents(made, lambda texts: [text.replace("a", "A") for text in texts])


def change_documents(made: Made, change: Callable[[list[str]], list[str]]) -> None:
    path = made.data / "documents" / "validation.jsonl.zst"
    rows = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    texts = change([json.loads(line)["text"] for line in rows.splitlines()])
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    path.write_bytes(zstandard.ZstdCompressor().compress(lines.encode()))


# What is scored


def _borders(made: Made) -> np.ndarray:
    ids = made.values()
    return np.append(np.flatnonzero(ids == ids[0]), len(ids))


def _keep(made: Made, places: np.ndarray, documents: int) -> None:
    ids, counts = made.values()[places], made.values(True)[places]
    made.rewrite(ids)
    made.rewrite(counts, sidecar=True)
    raw = json.loads((made.data / "manifest.json").read_text())
    raw["validation"]["num_documents"] = documents
    raw["validation"]["document_bytes"] = int(counts.sum())
    (made.data / "manifest.json").write_text(json.dumps(raw))
    made.settle()


@fault("sidecar read as tokens", "listed as one more shard", "COVER")
def sidecar_as_tokens(made: Made) -> None:
    raw = json.loads((made.data / "manifest.json").read_text())
    shard = raw["validation"]["shards"][0]
    raw["validation"]["shards"].append({**shard, "tokens": shard["sidecar"]})
    (made.data / "manifest.json").write_text(json.dumps(raw))


@fault("partial validation, dropped tail", "without the last three documents", "COVER")
def truncated(made: Made) -> None:
    borders = _borders(made)
    _keep(made, np.arange(borders[-4]), len(borders) - 4)


@fault("partial validation, dropped tail", "the last document has half its tokens", "RECOUNT")
def half_a_document(made: Made) -> None:
    borders = _borders(made)
    _keep(made, np.arange((borders[-2] + borders[-1]) // 2), len(borders) - 1)


@fault("partial validation, dropped tail", "the last 17 tokens are not scored", "COVER")
def dropped_tail(made: Made) -> None:
    result = made.result()
    result["bpb"]["final"]["tokens"] -= 17
    made.save(result)


@fault("more: what is scored", "an easy document in the place of others, texts too", "COVER")
def repeated(made: Made) -> None:
    borders = _borders(made)
    count = len(borders) - 1
    chosen = [*range(count - 6), *[1] * 6]
    _keep(made, np.concatenate([np.arange(borders[n], borders[n + 1]) for n in chosen]), count)
    change_documents(made, lambda texts: [texts[n] for n in chosen])


@fault("more: what is scored", "windows that leave tokens out and score others twice", "COVER")
def gaps(made: Made) -> None:
    from pgolf.eval import standard

    def windows(self: Any, count: int) -> Any:
        starts = np.arange(0, count, self.seq_len)
        return standard.Windows(starts, starts[[0, *range(len(starts) - 1)]], self.seq_len, 2)

    class Gaps(standard.StandardEvaluator):
        pass

    Gaps.windows = windows  # type: ignore[method-assign]
    standard.Gaps = Gaps  # type: ignore[attr-defined]
    change_config(
        made, eval={"_target_": "pgolf.eval.standard.Gaps", "seq_len": 64, "batch_seqs": 2}
    )


@fault("more: what is scored", "one token of a shard is another", "COVER")
def flipped_token(made: Made) -> None:
    path = made.data / made.manifest.validation.shards[0].tokens.path
    data = bytearray(path.read_bytes())
    data[1024 + 40] ^= 1
    path.unlink()
    path.write_bytes(bytes(data))


# Text that must not be seen


def change_config(made: Made, **groups: Any) -> None:
    """Another configuration, whose hash the result has, too."""
    config = yaml.safe_load((made.run / "config.yaml").read_text()) | groups
    (made.run / "config.yaml").write_text(yaml.safe_dump(config))
    result, old = made.result(), made.result()["config_hash"]
    result["config_hash"] = config_hash(config)
    made.save(result)
    runs = made.run.parent / "runs.jsonl"
    runs.write_text(runs.read_text().replace(old, result["config_hash"]))


@fault("trained on validation, then scored", "ttt=prequant21 on validation", "LEDGER")
def prequant(made: Made) -> None:
    target = "pgolf.ttt.prequant.PreQuantTTT"
    change_config(made, ttt={"_target_": target, "source": "validation", "epochs": 21})


@fault("trained on validation, then scored", "its configuration named another method", "LEDGER")
def renamed_method(made: Made) -> None:
    epochs = [
        {"time": event["time"], "event": "ttt_epoch", "stage": "ttt", "epoch": 1, "train/loss": 1.0}
        for event in made.events()
        if event["event"] == "stage" and event["stage"] == "ttt" and event["status"] == "done"
    ]
    made.save_events([*made.events(), *epochs])


@fault("trained on validation, then scored", "adapted weights, no event of it", "LEDGER")
def adapted_in_silence(made: Made) -> None:
    result, events = made.result(), made.events()
    for event in events:
        if event["event"] == "score" and event["name"] == "adapted":
            for key in ("nats", "bpb", "nats_per_token"):
                event[key] *= 0.9
                result["bpb"]["adapted"][key] = event[key]
    made.save(result)
    made.save_events(events)


@fault("trained on validation, then scored", "validation text among the training text", "DISJOINT")
def validation_in_training(made: Made) -> None:
    training_of(made, np.concatenate([made.values(split="training"), made.values()]))


@fault("training and validation overlap", "one document in both", "DISJOINT")
def overlap(made: Made) -> None:
    borders, ids = _borders(made), made.values()
    shared = ids[borders[2] : borders[3]]
    training_of(made, np.concatenate([made.values(split="training"), shared]))


@fault("training and validation overlap", "copies with a token changed", "DISJOINT")
def edited_copies(made: Made) -> None:
    ids, starts = made.values(), _borders(made)[:-1]
    ids[starts + 2] = ids[starts + 1]
    training_of(made, np.concatenate([made.values(split="training"), ids]))


@fault("training and validation overlap", "copies without borders between them", "DISJOINT")
def joined_copies(made: Made) -> None:
    ids = made.values()
    joined = np.append(ids[0], ids[ids != ids[0]])
    training_of(made, np.concatenate([made.values(split="training"), joined]))


def _ship(made: Made, name: str, content: bytes) -> None:
    """One more member of code.zip, with hashes and sizes in step."""
    with zipfile.ZipFile(made.run / "artifact" / "code.zip", "a") as archive:
        archive.writestr(name, content, zipfile.ZIP_DEFLATED)
    settle_artifact(made)


def settle_artifact(made: Made) -> None:
    from pgolf.auditing.runs import artifact_record

    folder, result, events = made.run / "artifact", made.result(), made.events()
    sizes = [path.stat().st_size for path in folder.iterdir() if path.is_file()]
    model = (folder / "model.pgolf").stat().st_size
    result["artifact"] |= {"total_bytes": sum(sizes), "code_bytes": sum(sizes) - model}
    made.save(result)
    for event in events:
        if event["event"] == "artifact":
            event["files"] = artifact_record(folder)
    made.save_events(events)


def _text(made: Made) -> bytes:
    path = made.data / "documents" / "validation.jsonl.zst"
    rows = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    return "\n".join(json.loads(line)["text"] for line in rows.splitlines()).encode()


@fault("validation text stored in the artifact", "as text", "STORED")
def stored_text(made: Made) -> None:
    _ship(made, "pgolf/table.bin", _text(made))


@fault("validation text stored in the artifact", "as token ids", "STORED")
def stored_ids(made: Made) -> None:
    _ship(made, "pgolf/table.bin", made.values().astype("<i4").tobytes())


@fault("validation text stored in the artifact", "deflated, base85, a string of code", "STORED")
def stored_string(made: Made) -> None:
    packed = base64.b85encode(zlib.compress(_text(made))).decode()
    _ship(made, "pgolf/table.py", f"TABLE = {packed!r}\n".encode())


@fault("quantization calibrated on validation", "the run says so", "LEDGER")
def calibration(made: Made) -> None:
    result, path = made.result(), made.run / "provenance.json"
    result["provenance"]["calibration"] = "validation text"
    made.save(result)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"calibration": "validation text"}))


# Order of scores; these are put into a run with ttt=phased_lora


def _parts(made: Made, change: Callable[[list[dict[str, Any]]], None]) -> None:
    events = made.events()
    change([event for event in events if event["event"] == "ttt_part"])
    made.save_events(events)


@fault("adapts on a chunk, then scores it", "weights moved while a part was scored", "LEDGER",
       "phased")  # fmt: skip
def learned_inside(made: Made) -> None:
    _parts(made, lambda parts: parts[1]["states"].update(after=parts[1]["states"]["after"] * 1.01))


@fault("warm-up on validation before the first score", "weights moved before it", "LEDGER",
       "phased")  # fmt: skip
def warmed_up(made: Made) -> None:
    def change(parts: list[dict[str, Any]]) -> None:
        parts[0]["states"]["opened"] *= 1.001

    _parts(made, change)


@fault("warm-up on validation before the first score", "the ledger opens on trained weights",
       "LEDGER", "phased")  # fmt: skip
def trained_before(made: Made) -> None:
    def change(parts: list[dict[str, Any]]) -> None:
        for key in ("opened", "before", "after"):
            parts[0]["states"][key] *= 1.01

    _parts(made, change)


@fault("adapts on a chunk, then scores it", "a part is scored twice", "LEDGER", "phased")
def twice(made: Made) -> None:
    events = made.events()
    at = next(n for n, event in enumerate(events) if event["event"] == "ttt_part")
    made.save_events([*events[: at + 1], events[at], *events[at + 1 :]])


@fault("adapts on a chunk, then scores it", "a later part is scored first", "LEDGER", "phased")
def out_of_order(made: Made) -> None:
    def change(parts: list[dict[str, Any]]) -> None:
        first, second = dict(parts[0]), dict(parts[1])
        parts[0].update(second)
        parts[1].update(first)

    _parts(made, change)


@fault("more: order", "the better nats of two passes are reported for a part", "LEDGER", "phased")
def better_part(made: Made) -> None:
    _parts(made, lambda parts: parts[1].update(nats=parts[1]["nats"] * 0.9))


@fault("more: order", "a model that learns while it is scored, no ttt", "LEDGER")
def learns_in_evaluation(made: Made) -> None:
    events = made.events()
    for event in events:
        if event["event"] == "state":
            event["after"] *= 1.0001
    made.save_events(events)


@fault("more: order", "other weights are scored than are shipped", "LEDGER")
def other_weights(made: Made) -> None:
    events = made.events()
    for event in events:
        if event["event"] == "state":
            event |= {"before": event["before"] * 1.01, "after": event["after"] * 1.01}
    made.save_events(events)


# Artifact


@fault("artifact over the limit", "16,000,001 bytes more", "RELOAD")
def too_large(made: Made) -> None:
    (made.run / "artifact" / "table.bin").write_bytes(bytes(16_000_001))
    settle_artifact(made)


@fault("artifact over the limit", "MiB for MB", "RELOAD")
def mebibytes(made: Made) -> None:
    (made.run / "artifact" / "table.bin").write_bytes(bytes(16_100_000))
    settle_artifact(made)
    result = made.result()
    result["artifact"]["limit"] = 16 * 2**20
    made.save(result)


@fault("artifact over the limit", "code is not counted", "RELOAD")
def code_left_out(made: Made) -> None:
    result = made.result()
    result["artifact"] |= {"code_bytes": 0, "total_bytes": result["artifact"]["model_bytes"]}
    made.save(result)


@fault("artifact over the limit", "code that is not shipped is imported", "RELOAD")
def not_shipped(made: Made) -> None:
    _ship(made, "pgolf/more.py", b"from my_kernels import f\n")


@fault("training data read at evaluation", "shipped code fetches from the network", "RELOAD")
def fetches(made: Made) -> None:
    _ship(made, "pgolf/more.py", b"import urllib.request\n")


@fault("training data read at evaluation", "shipped code opens a file that is not shipped", "PROV")
def hidden_file(made: Made) -> None:
    path = made.run / "artifact" / "code.zip"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["pgolf/score.py"] += b"\nTABLE = open('/var/tmp/table', 'rb').read\n"
    path.unlink()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    settle_artifact(made)


@fault("more: artifact", "a link to a file outside", "RELOAD")
def link_outside(made: Made) -> None:
    outside = made.run.parent / "table.bin"
    outside.write_bytes(b"table")
    (made.run / "artifact" / "table.bin").symlink_to(outside)
    settle_artifact(made)


@fault("more: artifact", "swapped after it was scored", "PROV")
def swapped(made: Made) -> None:
    path = made.run / "artifact" / "model.pgolf"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.unlink()
    path.write_bytes(bytes(data))


@fault("more: artifact", "hashed after it was scored", "PROV")
def hashed_late(made: Made) -> None:
    events = made.events()
    artifact = next(event for event in events if event["event"] == "artifact")
    events.remove(artifact)
    made.save_events([*events, artifact])


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
