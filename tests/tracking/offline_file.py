"""Reads the file of an offline W&B run: LevelDB's log format around protobuf records."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

BLOCK = 32768
HEADER = 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def raw_records(content: bytes) -> list[bytes]:
    """The payloads; the file starts with a header of 7 bytes, each piece with crc, length, type."""
    records, whole, at = [], b"", HEADER
    while at + HEADER <= len(content):
        left = BLOCK - at % BLOCK
        if left < HEADER:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        if kind == 0:
            break
        piece = content[at + HEADER : at + HEADER + length]
        at += HEADER + length
        whole = piece if kind in (FULL, FIRST) else whole + piece
        if kind in (FULL, LAST):
            records.append(whole)
    return records


def read_run(folder: Path, kind_of_run: str = "offline-run") -> dict[str, Any]:
    """History, summary, run and artifacts of the one offline run below `folder`, as a dict.

    An online one has such a file, too: `kind_of_run="run"`.
    """
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob(f"wandb/{kind_of_run}-*/run-*.wandb")
    found: dict[str, Any] = {"history": [], "summary": {}, "run": {}, "artifacts": []}
    for payload in raw_records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(payload)
        kind = record.WhichOneof("record_type")
        if kind == "history":
            found["history"].append(_items(record.history.item))
        elif kind == "summary":
            found["summary"].update(_items(record.summary.update))
        elif kind == "run":
            run = record.run
            config = {item.key: json.loads(item.value_json) for item in run.config.update}
            found["run"] = {
                "id": run.run_id,
                "group": run.run_group,
                "job_type": run.job_type,
                "tags": list(run.tags),
                "project": run.project,
                "config": config,
            }
        elif kind == "artifact":
            artifact = record.artifact
            files = {entry.path: entry.size for entry in artifact.manifest.contents}
            found["artifacts"].append({"type": artifact.type, "files": files})
        elif kind == "exit":
            found["exit_code"] = record.exit.exit_code
    return found


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
