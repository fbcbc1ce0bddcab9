"""The training loop: budgets, accumulation, schedule, recurrence switch, average, checkpoints.

The loop orchestrates and holds no science: optimizer, model, schedule and average are elsewhere.
"""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from pgolf.checkpoint import Checkpoints
from pgolf.clock import Clock
from pgolf.data.prefetch import Prefetch
from pgolf.distributed import World
from pgolf.errors import RunFailed
from pgolf.events import EventLog
from pgolf.kernel.replay import ForwardBackward
from pgolf.progress import track
from pgolf.protocols import Loader, Model, Optimizer
from pgolf.train.ema import WeightAverage
from pgolf.train.profile import profiled, table
from pgolf.train.schedule import lr_warmdown, recurrence_on

RAMP_BELOW_STEPS = 3000
PHASE, WARM_UP = "train", "warm-up"
PROFILED_STEP = 3


@dataclass
class TrainState:
    """Where the loop stands; with weights, optimizer and loader all that a resume needs."""

    step: int = 0
    tokens_seen: int = 0
    elapsed_s: float = 0.0
    last_loss: float = float("nan")
    lost_s: float = 0.0  # used by processes that were killed, after their last checkpoint


class Trainer:
    """Trains until the first of its budgets is met.

    Args:
        seq_len: tokens of a training sequence.
        train_batch_tokens: tokens of an optimizer step over all workers.
        micro_batch_seqs: most sequences a worker takes through the model at once.
        num_steps: optimizer steps, or None to go by time alone.
        max_seconds: seconds of training, or None to go by steps alone.
        warmdown_frac: last part of the budget over which learning rates fall linearly to 0.
        recurrence_start_frac: part of the budget after which the recurrence is switched on.
        ema_decay: decay per step of the average of weights, which is the result.
        ema_ramp: decay min(ema_decay, (1+t)/(10+t)); "auto" is on when the run is shorter than
            3,000 steps, where the plain average would still remember the initial weights, and when
            seconds alone end it, so that nobody knows how many they will be.
        compile_warmup_steps: steps without and with recurrence before the clock starts, where
            kernels are compiled; weights, optimizer and loader are put back afterwards.
        checkpoint_every_s: seconds between checkpoints.
        log_every: steps between logged losses.
        loader: "global" gives the same batches for any number of workers, "published" deals files
            over the ranks as PR #1738 does.
        profile: trace the third step without and the third with recurrence, on the main rank.
    """

    def __init__(
        self,
        *,
        seq_len: int,
        train_batch_tokens: int,
        micro_batch_seqs: int,
        num_steps: int | None,
        max_seconds: float | None,
        warmdown_frac: float = 0.72,
        recurrence_start_frac: float = 0.35,
        ema_decay: float = 0.9965,
        ema_ramp: Literal["auto", "on", "off"] = "auto",
        compile_warmup_steps: int = 2,
        checkpoint_every_s: float = 30.0,
        log_every: int = 5,
        loader: Literal["global", "published"] = "global",
        profile: bool = False,
    ) -> None:
        self.seq_len, self.micro_batch_seqs = seq_len, micro_batch_seqs
        self.batch_seqs = train_batch_tokens // seq_len
        self.num_steps, self.max_seconds = num_steps, max_seconds
        self.warmdown_frac, self.recurrence_start_frac = warmdown_frac, recurrence_start_frac
        self.ema_decay, self.ema_ramp = ema_decay, ema_ramp
        self.compile_warmup_steps = compile_warmup_steps
        self.checkpoint_every_s, self.log_every = checkpoint_every_s, log_every
        self.loader_kind: str = loader
        self.profile = profile

    def fit(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loader: Loader,
        world: World,
        clock: Clock,
        events: EventLog,
        checkpoints: Checkpoints,
    ) -> tuple[WeightAverage, TrainState]:
        """Train `model` in place; returns the average of its weights and where the loop ended.

        Args:
            checkpoints: where to resume from and to save to.

        Raises:
            RunFailed: the loss is not finite; every rank raises it.
        """
        loop = _Loop(self, model, optimizer, loader, world, clock, events, checkpoints)
        loop.restore()
        loop.warm_up(self.compile_warmup_steps if world.device.type == "cuda" else 0)
        try:
            with clock.phase(PHASE, "train"):
                loop.run()
        finally:
            loop.batches.close()
        return loop.average, loop.state

    def uses_ramp(self) -> bool:
        if self.ema_ramp == "auto":
            return self.num_steps is None or self.num_steps < RAMP_BELOW_STEPS
        return self.ema_ramp == "on"


class _Loop:
    """One run of the loop: the objects that change from step to step."""

    def __init__(
        self,
        settings: Trainer,
        model: nn.Module,
        optimizer: Optimizer,
        loader: Loader,
        world: World,
        clock: Clock,
        events: EventLog,
        checkpoints: Checkpoints,
    ) -> None:
        self.settings, self.model = settings, model
        self.optimizer, self.world, self.clock, self.events = optimizer, world, clock, events
        self.checkpoints = checkpoints
        self.forward_and_back = ForwardBackward(model, world.autocast)
        self.average = WeightAverage(model, decay=settings.ema_decay, ramp=settings.uses_ramp())
        self.state = TrainState()
        self.steps_of_kind = {False: 0, True: 0}
        self.micro_seqs = min(settings.micro_batch_seqs, settings.batch_seqs // world.world_size)
        self.accumulation = settings.batch_seqs // (self.micro_seqs * world.world_size)
        num_seqs = self.micro_seqs * world.world_size
        self.batches = Prefetch(
            loader, num_seqs, world.rank, world.world_size, world.device,
            document_bos=cast(Model, model).document_bos,
        )  # fmt: skip

    def forward_backward(self) -> Tensor:
        """Accumulate the gradients of one batch; returns the mean loss of this rank, on device."""
        total = torch.zeros((), device=self.world.device)
        for _ in range(self.accumulation):
            window_BT, borders = self.batches.next_batch()
            ids_BT, targets_BT = window_BT[:, :-1], window_BT[:, 1:]
            total += self.forward_and_back(ids_BT, targets_BT, borders, 1 / self.accumulation)
        return total / self.accumulation

    def progress(self) -> float:
        """Used part of the budget that will be met first, the same on every rank."""
        settings, state = self.settings, self.state
        by_steps = state.step / settings.num_steps if settings.num_steps else 0.0
        by_time = state.elapsed_s / settings.max_seconds if settings.max_seconds else 0.0
        return min(1.0, max(by_steps, by_time))

    def switch_recurrence(self, on: bool) -> None:
        cast(Model, self.model).recurrence(on)

    def lr_scale(self) -> float:
        return lr_warmdown(self.progress(), warmdown_frac=self.settings.warmdown_frac)

    def train_step(self) -> Tensor:
        state, settings = self.state, self.settings
        self.switch_recurrence(recurrence_on(self.progress(), settings.recurrence_start_frac))
        loss = self.forward_backward()
        self.optimizer.step(self.lr_scale(), state.step)
        self.average.update(state.step)
        state.step += 1
        state.tokens_seen += settings.batch_seqs * settings.seq_len
        return loss

    def profiled_step(self) -> Tensor:
        """A step, whose kernels are written down if it is the third of its kind."""
        on = recurrence_on(self.progress(), self.settings.recurrence_start_frac)
        self.steps_of_kind[on] += 1
        if self.steps_of_kind[on] != PROFILED_STEP or self.events.path is None:
            return self.train_step()
        name = f"profile_recurrence_{'on' if on else 'off'}"
        folder = self.events.path.parent
        found = profiled(self.train_step, self.world.device, folder / f"{name}.json.gz")
        (folder / f"{name}.txt").write_text(table(found) + "\n", encoding="utf-8")
        times = {"wall_ms": found["wall_ms"], "idle_ms": found["idle_ms"], **found["kinds"]}
        self.events.emit("profile", "train", step=self.state.step, recurrence=on, **times)
        loss: Tensor = found["result"]
        return loss

    def warm_up(self, steps: int) -> None:
        """Run steps without and with recurrence so that all is compiled, then put all back."""
        if steps == 0:
            return
        saved = copy.deepcopy(self.snapshot())
        with (
            self.clock.phase(WARM_UP, "train"),
            track("compile", 2 * steps, show=self.world.is_main) as bar,
        ):
            for on, _ in itertools.product((False, True), range(steps)):
                self.switch_recurrence(on)
                self.forward_backward()
                self.optimizer.step(1.0, 0)
                self.beat()
                bar.advance()
        self.load_snapshot(saved)
        self.events.emit("warm_up", "train", seconds=round(self.clock.seconds(WARM_UP), 3))

    def run(self) -> None:
        settings, state = self.settings, self.state
        saved_at = state.elapsed_s
        by_steps = settings.num_steps is not None
        total, unit = (settings.num_steps, "step") if by_steps else (settings.max_seconds, "s")
        with track("train", float(total or 0.0), unit, self.world.is_main) as bar:
            bar.advance(state.step if by_steps else state.elapsed_s)
            while self.progress() < 1.0:
                before, lr_scale = state.elapsed_s, self.lr_scale()
                loss = self.profiled_step() if settings.profile else self.train_step()
                self.read_clock()
                saves = state.elapsed_s - saved_at >= settings.checkpoint_every_s
                note = self.log(loss, lr_scale, saves)
                bar.advance(1 if by_steps else state.elapsed_s - before, note)
                if saves:
                    self.checkpoints.save(self.snapshot(), self.world)
                    saved_at = state.elapsed_s
        self.switch_recurrence(True)

    def read_clock(self) -> None:
        """Elapsed seconds of rank 0 on every rank, so that all end and switch at the same step.

        The number stays on the CPU: no rank waits for its GPU, whose queue the next steps fill.
        """
        elapsed = torch.tensor(self.clock.seconds(PHASE), dtype=torch.float64)
        self.state.elapsed_s = float(self.world.broadcast_(elapsed))
        self.beat()

    def beat(self) -> None:
        if self.world.is_main:
            self.checkpoints.beat(self.used_s())

    def used_s(self) -> dict[str, float]:
        """Seconds of each phase, those of earlier processes included."""
        return {name: self.clock.seconds(name) for name in (PHASE, WARM_UP)}

    def log(self, loss: Tensor, lr_scale: float, saves: bool) -> str:
        """Emit the loss where it is due, and check it before a checkpoint keeps the weights."""
        state = self.state
        due = state.step % self.settings.log_every == 0 or state.step == 1
        if not (due or saves or self.progress() >= 1.0):
            return ""
        state.last_loss = float(self.world.mean_(loss))
        if not math.isfinite(state.last_loss):
            raise RunFailed(
                f"training loss is {state.last_loss} at step {state.step}: lower the learning "
                "rates (optim.matrix_lr, optim.embed_lr or optim.lr) or use hardware.precision=fp32"
            )
        counters = {"step": state.step, "tokens": state.tokens_seen}
        metrics = {
            "train/loss": state.last_loss,
            "train/lr_scale": lr_scale,
            "perf/tokens_per_s": state.tokens_seen / max(state.elapsed_s, 1e-9),
        }
        elapsed_s = round(state.elapsed_s, 3)
        self.events.emit("train_step", "train", elapsed_s=elapsed_s, **counters, **metrics)
        return f"loss {state.last_loss:.3f}"

    def snapshot(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict(),
            "loader": self.batches.state_dict(),
            "state": dict(vars(self.state)),
            "rng": torch.get_rng_state(),
        }

    def load_snapshot(self, saved: dict[str, Any]) -> None:
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.average.load_state_dict(saved["average"])
        self.batches.load_state_dict(saved["loader"])
        self.state = TrainState(**saved["state"])
        torch.set_rng_state(saved["rng"])

    def restore(self) -> None:
        """Continue from the newest checkpoint, charging the seconds that were used until the kill.

        Without one nothing is left of them, so that training begins anew; but compiled kernels
        stay, so that a warm-up is charged.
        """
        saved, used_s = self.checkpoints.load(self.world), self.checkpoints.used_s()
        if saved is not None:
            self.load_snapshot(saved)
            # Seconds after the last checkpoint bought nothing, but they were used.
            lost_s = max(0.0, used_s.get(PHASE, 0.0) - self.state.elapsed_s)
            self.state.elapsed_s += lost_s
            self.state.lost_s += lost_s
        self.clock.add(PHASE, "train", self.state.elapsed_s)
        self.clock.add(WARM_UP, "train", used_s.get(WARM_UP, 0.0))
        if saved is not None or used_s:
            if self.world.is_main:
                self.checkpoints.note(self.used_s())
            used = {"elapsed_s": self.state.elapsed_s, "warm_up_s": self.clock.seconds(WARM_UP)}
            lost = {"lost_s": round(self.state.lost_s, 3)}
            self.events.emit("resume", "train", step=self.state.step, **used, **lost)
            where = "begins anew" if saved is None else f"continues from step {self.state.step:,}"
            self.checkpoints.say(
                f"train: {where}; {sum(used.values()):.1f} s of an interrupted run are charged"
            )
