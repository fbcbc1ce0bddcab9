"""Training checkpoints: one file a rank, published together, the newest whole set is resumed."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pgolf.distributed import World
from pgolf.errors import UserError
from pgolf.files import atomic_writer, write_json

LATEST = "checkpoint.json"
HEARTBEAT = "heartbeat.json"
NOTE_EVERY_S = 0.5
# What reading damaged files raises.
DAMAGE = (
    *(zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, ValueError),
    *(TypeError, KeyError, AttributeError),
)


def _ignore(text: str) -> None:
    """Nobody is told."""


class Checkpoints:
    """Saves into a folder that outlives the process; a rank keeps its own optimizer state.

    The pointer file is replaced after every rank has written its part, so a run that is killed
    while saving resumes from the set before.

    Args:
        folder: of one training.
        say: told when an interrupted one goes on.
    """

    def __init__(self, folder: Path, say: Callable[[str], None] = _ignore) -> None:
        self.folder, self.say = folder, say
        self._noted_s = 0.0

    def beat(self, seconds: dict[str, float]) -> None:
        """Note the seconds used by each phase, so that a killed run is charged for what it used."""
        if sum(seconds.values()) - self._noted_s >= NOTE_EVERY_S:
            self.note(seconds)

    def note(self, seconds: dict[str, float]) -> None:
        """As `beat`, at once."""
        self._noted_s = sum(seconds.values())
        write_json(self.folder / HEARTBEAT, seconds)

    def used_s(self) -> dict[str, float]:
        """Seconds by phase that earlier, killed processes used."""
        path = self.folder / HEARTBEAT
        if not path.exists():
            return {}
        with self._explained(path):
            noted = json.loads(path.read_text(encoding="utf-8"))
            return {name: float(s) for name, s in noted.items()}

    def save(self, snapshot: dict[str, Any], world: World) -> None:
        """Write this rank's snapshot and, when all ranks have, make the set the newest one."""
        step = snapshot["state"]["step"]
        with atomic_writer(self.folder / _part(step, world.rank)) as file:
            torch.save(snapshot, file)
        world.barrier()
        if world.is_main:
            write_json(self.folder / LATEST, {"step": step, "world_size": world.world_size})
            for path in self.folder.glob("checkpoint-*.pt"):
                if not path.name.startswith(f"checkpoint-{step}-"):
                    path.unlink(missing_ok=True)

    def load(self, world: World) -> dict[str, Any] | None:
        """This rank's part of the newest set, on the CPU.

        Returns:
            None on every rank where there is no whole set for this number of ranks.

        Raises:
            UserError: a part cannot be read.
        """
        pointer = self.folder / LATEST
        if not pointer.exists():
            return None
        with self._explained(pointer):
            latest = json.loads(pointer.read_text(encoding="utf-8"))
            path = self.folder / _part(latest["step"], world.rank)
            lacks = latest["world_size"] != world.world_size or not path.exists()
        if world.sum_floats(float(lacks)) != [0.0]:
            return None
        with self._explained(path):
            return _read_part(path)

    @contextmanager
    def _explained(self, path: Path) -> Iterator[None]:
        """What a damaged file leads to, as a `UserError` with the remedy."""
        try:
            yield
        except DAMAGE as error:
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(
                f"checkpoint {path} is damaged ({why}): remove {self.folder} and run the same "
                "command again, training starts anew"
            ) from error


def _read_part(path: Path) -> dict[str, Any]:
    # torch.load does not compare the checksums that torch.save wrote.
    with zipfile.ZipFile(path) as archive:
        wrong = archive.testzip()
    if wrong is not None:
        raise ValueError(f"wrong checksum of {wrong}")
    part: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return part


def _part(step: int, rank: int) -> str:
    return f"checkpoint-{step}-rank{rank}.pt"
