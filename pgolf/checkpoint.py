"""Training checkpoints: one file a rank, published together, the newest whole set is resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from pgolf.distributed import World
from pgolf.files import atomic_writer, write_json

LATEST = "checkpoint.json"
HEARTBEAT = "heartbeat.json"
BEAT_EVERY_S = 0.5


class Checkpoints:
    """Saves into a folder that outlives the process; a rank keeps its own optimizer state.

    The pointer file is replaced after every rank has written its part, so a run that is killed
    while saving resumes from the set before.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._beat_s = 0.0

    def beat(self, elapsed_s: float) -> None:
        """Note the used seconds, so that a killed run is charged for what it used."""
        if elapsed_s - self._beat_s >= BEAT_EVERY_S:
            self._beat_s = elapsed_s
            write_json(self.folder / HEARTBEAT, {"elapsed_s": elapsed_s})

    def used_s(self) -> float:
        """Seconds of training that earlier, killed processes used."""
        path = self.folder / HEARTBEAT
        if not path.exists():
            return 0.0
        return float(json.loads(path.read_text(encoding="utf-8"))["elapsed_s"])

    def save(self, snapshot: dict[str, Any], world: World) -> None:
        """Write this rank's snapshot and, when all ranks have, make the set the newest one."""
        step = snapshot["state"]["step"]
        with atomic_writer(self.folder / _part(step, world.rank)) as file:
            torch.save(snapshot, file)
        world.barrier()
        if world.is_main:
            write_json(
                self.folder / LATEST, {"step": step, "world_size": world.world_size}
            )
            for path in self.folder.glob("checkpoint-*.pt"):
                if not path.name.startswith(f"checkpoint-{step}-"):
                    path.unlink(missing_ok=True)

    def load(self, world: World) -> dict[str, Any] | None:
        """This rank's part of the newest set; None where there is none for this number of ranks."""
        pointer = self.folder / LATEST
        if not pointer.exists():
            return None
        latest = json.loads(pointer.read_text(encoding="utf-8"))
        path = self.folder / _part(latest["step"], world.rank)
        if latest["world_size"] != world.world_size or not path.exists():
            return None
        return torch.load(path, map_location=world.device, weights_only=True)  # type: ignore[no-any-return]

    def clear(self) -> None:
        """Remove everything: training is finished."""
        for path in [*self.folder.glob("checkpoint*"), self.folder / HEARTBEAT]:
            path.unlink(missing_ok=True)


def _part(step: int, rank: int) -> str:
    return f"checkpoint-{step}-rank{rank}.pt"
