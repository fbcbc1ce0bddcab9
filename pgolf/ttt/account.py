"""What the ledgers of adaptive methods share: the running score.

A ledger decides what is scored next; the account adds it up, shows it, and refuses to close while
something is missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from pgolf.distributed import World
from pgolf.errors import RunFailed
from pgolf.progress import Bar, track
from pgolf.score import Score

if TYPE_CHECKING:
    from pgolf.events import EventLog
    from pgolf.ttt.watch import States


class Account:
    """The running total of a text that is scored part by part; `curve` has it after each part.

    Args:
        num_positions: of the text; each has to be scored once.
        world: every rank adds the same parts.
        events: gets a `ttt_part` event a part, see `add`, and a `ttt_curve` event: tokens, bpb,
            and unadapted_bpb where it is known.
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

    def add(self, part: Score, states: States | None = None) -> None:
        """Add a part's score, that of all ranks; without a byte yet there are no bits per byte.

        Args:
            states: what the ledger saw of weights and buffers around it; a `ttt_part` event has
                them, so that everyone can check the order: part, begin, tokens (to its end), and
                norms. None on a rank that had nothing to score.

        Raises:
            RunFailed: it is not a number.
        """
        if not math.isfinite(part.nats):
            raise RunFailed(
                f"ttt: the nats of a part are {part.nats}, after {self.total.tokens:,} tokens: "
                "if adapting broke the model, use smaller learning rates (ttt.lr=...)"
            )
        before = self.total
        total = Score(
            before.nats + part.nats,
            before.tokens + part.tokens,
            before.raw_bytes + part.raw_bytes,
        )
        self.curve.append(total)
        if self._events is not None:
            self._events.emit(
                "ttt_part", "final", part=len(self.curve) - 1, begin=before.tokens,
                tokens=total.tokens, nats=part.nats,
                states=None if states is None else asdict(states),
            )  # fmt: skip
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
