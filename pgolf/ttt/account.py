"""What the ledgers of adaptive methods share: the running score, and that scoring changes nothing.

A ledger decides what is scored next; the account adds it up, shows it, and refuses to close while
something is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn

from pgolf.distributed import World
from pgolf.errors import RunFailed
from pgolf.progress import Bar, track
from pgolf.score import Score

if TYPE_CHECKING:
    from pgolf.events import EventLog


class Account:
    """The running total of a text that is scored part by part; `curve` has it after each part.

    Args:
        num_positions: of the text; each has to be scored once.
        world: every rank adds the same parts.
        events: gets a `ttt_curve` event a part: tokens, bpb, and unadapted_bpb where it is known.
        unadapted: `curve` of an account of the same parts, whose model stayed as it is shipped.
    """

    def __init__(
        self,
        num_positions: int,
        world: World,
        events: EventLog | None = None,
        unadapted: list[Score] | None = None,
    ) -> None:
        self.num_positions = num_positions
        self.curve: list[Score] = []
        self._world, self._events, self._unadapted = world, events, unadapted
        self._bar, self._shown = Bar(), 0

    @contextmanager
    def progress(self, label: str) -> Iterator[None]:
        """Show positions and running BPB inside."""
        with track(label, self.num_positions, "token", self._world.is_main) as self._bar:
            yield

    @property
    def total(self) -> Score:
        """What is scored so far."""
        return self.curve[-1] if self.curve else Score(0.0, 0, 0)

    def show(self, num_tokens: int) -> None:
        """Move the progress before the part that they belong to is added."""
        self._shown += num_tokens
        self._bar.advance(num_tokens)

    def add(self, part: Score) -> None:
        """Add a part's score, that of all ranks; without a byte yet there are no bits per byte."""
        before = self.total
        total = Score(
            before.nats + part.nats,
            before.tokens + part.tokens,
            before.raw_bytes + part.raw_bytes,
        )
        self.curve.append(total)
        note, values = "", {}
        if total.raw_bytes:
            note, values = f"{total.bpb:.4f} BPB", {"bpb": total.bpb}
            if self._unadapted is not None:
                values["unadapted_bpb"] = self._unadapted[len(self.curve) - 1].bpb
                note += f", unadapted {values['unadapted_bpb']:.4f}"
            if self._events is not None:
                self._events.emit("ttt_curve", "final", tokens=total.tokens, **values)
        self._bar.advance(part.tokens - self._shown, note)
        self._shown = 0

    def finish(self) -> Score:
        """The score of the whole text.

        Raises:
            RunFailed: something is not scored.
        """
        if self.total.tokens != self.num_positions:
            left = self.num_positions - self.total.tokens
            raise RunFailed(f"ttt: the method ended with {left:,} tokens that are not scored")
        return self.total


@contextmanager
def unchanged(*modules: object) -> Iterator[None]:
    """Inside, parameters and buffers stay as they are; objects that are no modules have none.

    Raises:
        RunFailed: a method learned while it was asked.
    """
    before = _states(modules)
    yield
    if _states(modules) != before:
        raise RunFailed("ttt: the model's weights changed while it scored: score, then adapt")


def _states(modules: tuple[object, ...]) -> list[tuple[int, int]]:
    """Where each parameter and buffer lies, and torch's count of its in-place changes."""
    return [
        (tensor.data_ptr(), tensor._version)
        for module in modules
        if isinstance(module, nn.Module)
        for tensor in (*module.parameters(), *module.buffers())
    ]
