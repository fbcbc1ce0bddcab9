"""A finished run to tamper with: its folder and its data, each test with copies of its own."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pgolf.audit.finding import Verdict
from pgolf.auditing.runs import open_auditor, open_subject
from pgolf.data.manifest import File, Manifest, Split
from tests.integration.command import Workspace

WORDS = [
    *("the", "of", "Loop", "and", "LAYER", "a", "score", "byte", "small", "naïve", "model"),
    *("weight", "übrig", "McDonald", "42"),
]
RARE = "⚙ 漢字 🜁 ᚠᚢᚦ"  # not among the pieces: written in bytes


@dataclass
class Made:
    """Copies of a run folder and of its shards, with the raw documents beside these."""

    run: Path
    data: Path

    def audit(
        self, mode: str = "quick", rescore: Any = None, without: Collection[str] = ()
    ) -> Verdict:
        subject, auditor = open_subject(self.run, self.data, rescore), open_auditor(mode)
        auditor.probes = [probe for probe in auditor.probes if probe.name not in without]
        return auditor.audit(subject, show=False)

    def finding(self, probe: str, mode: str = "quick") -> Any:
        """The answer of one probe alone."""
        auditor = open_auditor(mode)
        auditor.probes = [p for p in auditor.probes if p.name == probe]
        found = auditor.audit(open_subject(self.run, self.data), show=False).findings
        return next(finding for finding in found if finding.probe == probe)

    @property
    def manifest(self) -> Manifest:
        return Manifest.load(self.data)

    def values(self, sidecar: bool = False, split: str = "validation") -> np.ndarray:
        shard = getattr(self.manifest, split).shards[0]
        file = shard.sidecar if sidecar else shard.tokens
        return np.fromfile(self.data / file.path, "<u2", offset=1024)

    def rewrite(self, values: np.ndarray, sidecar: bool = False) -> None:
        """Put other values into the validation shard, its manifest and the result, all in step."""
        manifest = self.manifest
        shard = manifest.validation.shards[0]
        path = self.data / (shard.sidecar if sidecar else shard.tokens).path  # type: ignore[union-attr]
        header = np.fromfile(path, "<i4", count=256)
        header[2] = len(values)
        path.unlink()
        path.write_bytes(header.tobytes() + values.astype("<u2").tobytes())
        raw = json.loads((self.data / "manifest.json").read_text())
        entry = raw["validation"]["shards"][0]
        entry["sidecar" if sidecar else "tokens"] = vars(File.of(self.data, path.name))
        if sidecar:
            entry["raw_bytes"] = int(values.sum())
        else:
            entry["num_tokens"] = len(values)
        (self.data / "manifest.json").write_text(json.dumps(raw))
        self.settle()

    def settle(self) -> None:
        """Make result and events agree with the sidecar, as a run on these files would."""
        num_bytes = int(self.values(sidecar=True)[1:].sum())
        num_tokens = len(self.values()) - 1
        result = self.result()
        for score in (*result["bpb"].values(), result["control"]):
            if score is not None:
                score |= {"bytes": num_bytes, "tokens": num_tokens}
                score["bpb"] = score["nats"] / np.log(2.0) / num_bytes
        self.save(result)
        self.record_data(manifest_sha256=None)
        for event in (events := self.events()):
            if event["event"] == "score":
                event |= result["bpb"][event["name"]] | {"name": event["name"]}
        self.save_events(events)
        runs = self.run.parent / "runs.jsonl"
        rows = [json.loads(line) for line in runs.read_text().splitlines()]
        for row in rows:
            if row["run_id"] == result["run_id"] and row["bpb"] is not None:
                row["bpb"] = result["bpb"]["final"]["bpb"]
        runs.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def record_data(self, **facts: str | None) -> None:
        """Change what the run wrote down of its data, wherever that stands."""
        result = self.result()
        result["provenance"]["data"] |= facts
        self.save(result)
        (self.run / "provenance.json").write_text(json.dumps(result["provenance"]))

    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.run / "result.json").read_text())
        return found

    def save(self, result: dict[str, Any]) -> None:
        (self.run / "result.json").write_text(json.dumps(result))

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.run / "events.jsonl").read_text().splitlines()]

    def save_events(self, events: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(event) + "\n" for event in events)
        (self.run / "events.jsonl").write_text(lines)


def write_documents(path: Path, count: int = 300) -> Path:
    """Documents with capitals, characters of several bytes, and some that are in no vocabulary."""
    rng = random.Random(0)
    with open(path, "w", encoding="utf-8") as file:
        for number in range(count):
            words = [rng.choice(WORDS) for _ in range(30)]
            words.insert(5, rng.choice(RARE))
            row = {"text": f"Document {number}\n\n{' '.join(words)}\n"}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def make_run(folder: Path, *overrides: str) -> Made:
    """Run launch.py once, on documents made here."""
    workspace = Workspace(folder)
    text = write_documents(folder / "documents.jsonl")
    done = workspace.launch(
        "ttt=none", "audit=quick", f"data.path={text}", "data.val_rule=hash:0.1",
        "tokenizer=caseops_lossless", "scale.vocab_size=340", *overrides,
    )  # fmt: skip
    assert done.code == 0, done.text
    return Made(done.folder, Path(done.result["provenance"]["data"]["folder"]))


def copy_of(made: Made, folder: Path) -> Made:
    """A copy with its documents, whose parts may be changed."""
    run = folder / made.run.parent.name / made.run.name
    shutil.copytree(made.run, run)
    shutil.copyfile(made.run.parent / "runs.jsonl", run.parent / "runs.jsonl")
    data = Path(shutil.copytree(made.data, folder / "data"))
    if not (data / "documents").is_dir():  # that of a copy has them
        shutil.copytree(made.result()["provenance"]["data"]["documents"], data / "documents")
    return Made(run, data)


def training_of(made: Made, ids: np.ndarray) -> None:
    """Replace the training shard by these tokens."""
    manifest = made.manifest
    shard = manifest.training.shards[0]
    path = made.data / shard.tokens.path
    header = np.fromfile(path, "<i4", count=256)
    header[2] = len(ids)
    path.unlink()
    path.write_bytes(header.tobytes() + ids.astype("<u2").tobytes())
    raw = json.loads((made.data / "manifest.json").read_text())
    entry = raw["training"]["shards"][0]
    entry |= {"num_tokens": len(ids), "tokens": vars(File.of(made.data, path.name))}
    (made.data / "manifest.json").write_text(json.dumps(raw))
    assert isinstance(made.manifest.training, Split)
    made.settle()
