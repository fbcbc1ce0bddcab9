"""The process that writes TensorBoard's event files: JSON lines as in wandb_child.py.

    in   {"folder": ..., "config": {flat name: value}}
    in   {"scalars": [[name, value, step], ...]}, the last one with "finish" and "success"

It imports nothing from pgolf, and ends by itself when its input ends.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
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
        writer = Writer(request["folder"], request["config"])
    except Exception as error:
        answer = {"ok": False, "reason": f"{type(error).__name__}: {error}"}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
    if not answer["ok"]:
        return
    success = False
    for line in sys.stdin:
        message = json.loads(line)
        writer.scalars(message.get("scalars", []))
        if "finish" in message:
            success = message["success"]
            break
    writer.close(success)


class Writer:
    """Event files without TensorFlow or torch.

    Args:
        folder: of the run.
        config: its hyperparameters.
    """

    def __init__(self, folder: str, config: dict[str, Any]) -> None:
        from google.protobuf import struct_pb2
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._metadata, self._status = summary_pb2.SummaryMetadata, api_pb2.Status
        self._data = plugin_data_pb2
        self._writer = EventFileWriter(folder, flush_secs=5)
        start = plugin_data_pb2.SessionStartInfo(start_time_secs=time.time())
        for name, value in config.items():
            kind = {bool: "bool_value", str: "string_value"}.get(type(value), "number_value")
            start.hparams[name].CopyFrom(struct_pb2.Value(**{kind: value}))
        self._hparams("session_start_info", start)

    def scalars(self, points: list[tuple[str, float, int]]) -> None:
        """Write `(name, value, step)` each."""
        for name, value, step in points:
            self._add(
                self._summary(value=[self._summary.Value(tag=name, simple_value=value)]), step
            )

    def close(self, success: bool) -> None:
        """Say how the run ended, and write what is waiting."""
        name = "STATUS_SUCCESS" if success else "STATUS_FAILURE"
        status = self._status.Value(name)
        end = self._data.SessionEndInfo(status=status, end_time_secs=time.time())
        self._hparams("session_end_info", end)
        self._writer.close()

    def _hparams(self, name: str, info: Any) -> None:
        """Write what the hyperparameter page reads; TensorBoard's own helper wants TensorFlow."""
        content = self._data.HParamsPluginData(version=0, **{name: info}).SerializeToString()
        plugin = self._metadata.PluginData(plugin_name="hparams", content=content)
        metadata = self._metadata(plugin_data=plugin)
        value = self._summary.Value(tag=f"_hparams_/{name}", metadata=metadata)
        self._add(self._summary(value=[value]), 0)

    def _add(self, summary: Any, step: int) -> None:
        self._writer.add_event(self._event(summary=summary, step=step, wall_time=time.time()))


if __name__ == "__main__":
    main()
