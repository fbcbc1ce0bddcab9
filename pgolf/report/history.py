"""What a run folder tells so far, read as it grows: each line of events.jsonl is read once."""

from __future__ import annotations

import json
import math
from array import array
from bisect import bisect_left
from pathlib import Path
from typing import Any

import yaml

from pgolf.errors import UserError
from pgolf.provenance import config_hash
from pgolf.result import validate_result

# libyaml's loader is ten times as fast; both read the same.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Of a `documents` event (pgolf.documents).
DOCUMENTS = ("count", "edges", "counts", "quartiles")
TENSOR = {"name", "encoded_bytes"}  # of a row of a `tensors` event


class Curve:
    """Columns of numbers by an ascending first one; a lower value takes back all from there.

    So a run that was killed and continues from a checkpoint shows each step once.
    """

    def __init__(self, width: int) -> None:
        self.columns = tuple(array("d") for _ in range(width))

    def add(self, *values: Any) -> None:
        """Append a row; what is no finite number is left out, but the first column must have one.

        A missing value of another column is kept as NaN.
        """
        if not _finite(values[0]):
            return
        first = self.columns[0]
        if first and values[0] <= first[-1]:
            keep = bisect_left(first, values[0])
            for column in self.columns:
                del column[keep:]
        for column, value in zip(self.columns, values, strict=True):
            column.append(float(value) if _finite(value) else math.nan)

    def __len__(self) -> int:
        return len(self.columns[0])


class History:
    """One run folder.

    Attributes:
        loss: step, seconds, tokens and training loss in nats per token.
        epochs: epoch, validation BPB and loss of test-time training.
        running: tokens scored, BPB and unadapted BPB of a method that adapts while scoring.
        scores: BPB by name.
        trained_nats: of the trained weights' score, which tells them from all others.
        tensors: rows of `pgolf.census`.
        documents: edges and counts of the final score's histogram by document; no text.
        stage, first_time, last_time: where the run is, and since when.
        seconds: of each stage; reused: the stages that came out of the cache.
        result: content of result.json, or None; broken: what is wrong with it, or "".
        config: content of config.yaml, {} while there is none.
        group: hash of the configuration, equal over seeds.
        base: hash of all but its test-time training.
        version: how often something new was read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.result: dict[str, Any] | None = None
        self.config: dict[str, Any] = {}
        self.broken, self.version = "", 0
        self.group = self.base = folder.name
        self._seen: dict[str, tuple[int, int]] = {}
        self._begin()

    def _begin(self) -> None:
        self._offset, self._inode = 0, 0
        self.loss, self.epochs, self.running = Curve(4), Curve(3), Curve(3)
        self.scores: dict[str, float] = {}
        self.trained_nats: float | None = None
        self.seconds: dict[str, float] = {}
        self.reused: set[str] = set()
        self.tensors: list[dict[str, Any]] = []
        self.documents: dict[str, Any] = {}
        self.stage, self.first_time, self.last_time = "", 0.0, 0.0

    def refresh(self) -> bool:
        """Read what is new; True where something was."""
        new = self._read_events()
        if self._changed("config.yaml"):
            new |= self._read_config()
        if self._changed("result.json"):
            new |= self._read_result()
        self.version += new
        return new

    def _changed(self, name: str) -> bool:
        try:
            found = (self.folder / name).stat()
        except OSError:
            return False
        now = (found.st_mtime_ns, found.st_size)
        before, self._seen[name] = self._seen.get(name), now
        return now != before

    def _read_config(self) -> bool:
        try:
            text = (self.folder / "config.yaml").read_text(encoding="utf-8")
            found = yaml.load(text, Loader=_Loader)
        except (OSError, ValueError, yaml.YAMLError):
            found = None
        self.config = found if isinstance(found, dict) else {}
        if self.config:
            self.base = config_hash({k: v for k, v in self.config.items() if k != "ttt"})
            self.group = config_hash(self.config) if self.result is None else self.group
        return True

    def _read_result(self) -> bool:
        try:
            result = json.loads((self.folder / "result.json").read_text(encoding="utf-8"))
            validate_result(result)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, UserError) as error:
            self.result, self.broken = None, str(error)
            return True
        self.result, self.broken, self.group = result, "", result["config_hash"]
        return True

    def _read_events(self) -> bool:
        path = self.folder / "events.jsonl"
        try:
            with open(path, "rb") as file:
                found = path.stat()
                if found.st_size < self._offset or (self._inode and found.st_ino != self._inode):
                    self._begin()  # another file than before: written anew
                self._inode = found.st_ino
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return False
        whole = data[: data.rfind(b"\n") + 1]  # a line that is being written waits
        self._offset += len(whole)
        for event in _parsed(whole):
            if isinstance(event, dict):
                self._take(event)
        return bool(whole)

    def _take(self, event: dict[str, Any]) -> None:
        kind, get = event.get("event"), event.get
        if _finite(get("time")):
            self.last_time = float(event["time"])
            self.first_time = self.first_time or self.last_time
        if kind == "train_step":
            if _finite(get("train/loss")):
                self.loss.add(get("step"), get("elapsed_s"), get("tokens"), event["train/loss"])
        elif kind == "ttt_epoch":
            self.epochs.add(get("epoch"), get("val/bpb"), get("train/loss"))
        elif kind == "ttt_curve":
            self.running.add(get("tokens"), get("bpb"), get("unadapted_bpb"))
        elif kind == "score" and _finite(get("bpb")):
            self.scores[str(get("name"))] = float(event["bpb"])
            if get("name") == "trained" and _finite(get("nats")):
                self.trained_nats = float(event["nats"])
        elif kind == "stage":
            self._take_stage(event)
        elif kind == "tensors" and isinstance(get("rows"), list):
            self.tensors = [row for row in event["rows"] if set(row) >= TENSOR]
        elif kind == "documents" and all(map(get, DOCUMENTS)) and len(event["edges"]) > 1:
            self.documents = {name: event[name] for name in DOCUMENTS}

    def _take_stage(self, event: dict[str, Any]) -> None:
        name = str(event.get("stage"))
        if event.get("status") == "start":
            self.stage = name
        if _finite(event.get("seconds")):
            self.seconds[name] = float(event["seconds"])
        if event.get("status") == "reused":
            self.reused.add(name)
        if name == "pack" and event.get("status") in ("done", "reused"):
            self.stage = "load"  # until a fresh process says what it does


def _parsed(whole: bytes) -> list[Any]:
    """The JSON value of each line; what a killed writer left, and the line after it, is dropped."""
    lines = [line for line in whole.split(b"\n") if line.strip()]
    try:  # together they are parsed in half the time
        together: list[Any] = json.loads(b"[" + b",".join(lines) + b"]")
        return together
    except ValueError:
        pass
    values = []
    for line in lines:
        try:
            values.append(json.loads(line))
        except ValueError:
            continue
    return values


def read_run(folder: Path) -> History:
    """All that a run folder tells now."""
    history = History(folder)
    history.refresh()
    return history


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
