"""`tracking=several`: some trackers at once; one that fails is left out, the others go on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hydra.utils import instantiate

from pgolf.errors import UserError
from pgolf.say import TERMINAL

if TYPE_CHECKING:  # protocols imports numpy
    from pgolf.protocols import TrackingSink


class SeveralTracking:
    """Hands everything to each of the chosen trackers.

    Args:
        say: where they tell their user what they do.
        sinks: which of the others below are used, in this order.
        wandb, trackio, tensorboard: settings of each, with `_target_`.

    Raises:
        UserError: none is chosen, or one twice.
    """

    def __init__(
        self,
        say: Callable[[str], None] = TERMINAL,
        *,
        sinks: list[Literal["wandb", "trackio", "tensorboard"]],
        wandb: dict[str, Any],
        trackio: dict[str, Any],
        tensorboard: dict[str, Any],
    ) -> None:
        if not sinks or len(set(sinks)) != len(sinks):
            raise UserError(
                f"tracking.sinks={list(sinks)}: name some of wandb, trackio, tensorboard, each once"
            )
        settings = {"wandb": wandb, "trackio": trackio, "tensorboard": tensorboard}
        self._say = say
        self._sinks: dict[str, TrackingSink] = {
            name: instantiate(settings[name], say) for name in sinks
        }

    def check(self) -> None:
        """Raises UserError where one of them cannot be had as it is asked for."""
        for sink in self._sinks.values():
            sink.check()

    def start(self, run_id: str, name: str, config: dict[str, Any], run_folder: Path) -> None:
        """Begin a run with each."""
        self._each(lambda sink: sink.start(run_id, name, config, run_folder))

    def log(self, event: dict[str, Any]) -> None:
        """Hand over an event."""
        self._each(lambda sink: sink.log(event))

    def finish(self, result: dict[str, Any] | None) -> None:
        """Let all finish at the same time: together they take as long as the slowest."""
        threads = [
            threading.Thread(target=self._one, args=(name, lambda sink: sink.finish(result)))
            for name in self._sinks
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _each(self, action: Callable[[TrackingSink], None]) -> None:
        for name in list(self._sinks):
            self._one(name, action)

    def _one(self, name: str, action: Callable[[TrackingSink], None]) -> None:
        try:
            action(self._sinks[name])
        except Exception as error:
            del self._sinks[name]
            self._say(f"tracking: {name} failed and is left out: {error}")
