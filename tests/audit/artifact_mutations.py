"""Faults of the order of scores, and of what is shipped."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from typing import Any

from tests.audit.faults import fault, settle_artifact, ship
from tests.audit.made import Made

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
    ship(made, "pgolf/more.py", b"from my_kernels import f\n")


@fault("training data read at evaluation", "shipped code fetches from the network", "RELOAD")
def fetches(made: Made) -> None:
    ship(made, "pgolf/more.py", b"import urllib.request\n")


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
