"""What every stage of a worker's job needs, built once a process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pgolf.clock import Clock
from pgolf.distributed import World
from pgolf.events import EventLog
from pgolf.say import Say


class Context:
    """The job, the world, the clock, and where words and events go."""

    def __init__(self, job: dict[str, Any], world: World) -> None:
        self.job, self.world = job, world
        self.run_folder, self.cache = Path(job["run_folder"]), Path(job["cache"])
        main = world.is_main
        self.events = EventLog(self.run_folder / "events.jsonl" if main else None)
        self.say = Say(self.run_folder / "log.txt", show=main)
        self.clock = Clock(job["limits"], world.synchronize)
        self.stage = "start"
