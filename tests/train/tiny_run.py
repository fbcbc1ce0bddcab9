"""Training of tiny models for tests: a loader, a timer that it moves, and `fit`."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pgolf.checkpoint import Checkpoints
from pgolf.clock import Clock
from pgolf.distributed import World
from pgolf.events import EventLog, read_events
from pgolf.model.baseline import BaselineGPT
from pgolf.model.recurrent import RecurrentGPT
from pgolf.optim.muon_adamw import MuonAdamW
from pgolf.train.ema import WeightAverage
from pgolf.train.trainer import Trainer, TrainState
from tests.model.tiny import RECURRENT, SIZES, tiny_recurrent

SEQ_LEN, VOCAB = 16, 61
SETTINGS: dict[str, Any] = {
    **{"seq_len": SEQ_LEN, "train_batch_tokens": 4 * SEQ_LEN, "micro_batch_seqs": 2},
    **{"num_steps": 8, "max_seconds": None, "checkpoint_every_s": 6.0, "log_every": 1},
}


def initialized(kind: type[nn.Module], **settings: Any) -> nn.Module:
    """With its own first weights: in those of tests.model.tiny rounding errors explode."""
    torch.manual_seed(0)
    return kind(**{**SIZES, **settings})


MODELS = {
    "recurrent3": lambda: initialized(RecurrentGPT, **RECURRENT),
    "baseline": lambda: initialized(BaselineGPT),
}


class Timer:
    def __init__(self, start_s: float = 0.0) -> None:
        self.now_s = start_s

    def __call__(self) -> float:
        return self.now_s


class TinyLoader:
    """Windows drawn from their number in the stream: the same for any number of workers.

    Args:
        timer: moved one second by each batch.
        stop_at: raise KeyboardInterrupt instead of the batch of this number.
    """

    def __init__(self, timer: Timer | None = None, stop_at: int | None = None) -> None:
        self.position, self.batches = 0, 0
        self.timer, self.stop_at = timer or Timer(), stop_at

    def next_batch(self, num_seqs: int, rank: int, world_size: int) -> np.ndarray:
        if self.batches == self.stop_at:
            raise KeyboardInterrupt
        self.batches += 1
        self.timer.now_s += 1.0
        first, self.position = self.position, self.position + num_seqs
        windows = [
            # A text in which the next token is mostly the last one plus one: it can be learnt.
            (np.arange(SEQ_LEN + 1) + np.random.default_rng(n).integers(0, VOCAB)) % VOCAB
            for n in range(first + rank, first + num_seqs, world_size)
        ]
        return np.stack(windows)

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def muon(model: nn.Module, world: World) -> MuonAdamW:
    return MuonAdamW(list(model.named_parameters()), world, ns_dtype="fp32")


def fit(
    folder: Path,
    *,
    model: nn.Module | None = None,
    loader: TinyLoader | None = None,
    world: World | None = None,
    optimizer: Any = muon,
    **changes: Any,
) -> tuple[nn.Module, WeightAverage, TrainState, Clock]:
    """Train a tiny model; checkpoints and events go to `folder`."""
    model, world = model or tiny_recurrent(), world or World()
    loader = loader or TinyLoader()
    clock = Clock({}, now=loader.timer)
    average, state = Trainer(**{**SETTINGS, **changes}).fit(
        model,
        optimizer(model, world),
        loader,
        world,
        clock,
        EventLog(folder / "events.jsonl" if world.is_main else None),
        Checkpoints(folder),
    )
    return model, average, state, clock


def events_of(folder: Path, kind: str = "train_step") -> list[dict[str, Any]]:
    return [row for row in read_events(folder / "events.jsonl") if row["event"] == kind]


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def poisoned(model: nn.Module, calls: int, value: float) -> nn.Module:
    """The model, whose loss is multiplied by something that is not finite after some calls."""
    left = itertools.count(calls - 1, -1)
    model.register_forward_hook(lambda m, x, loss: loss if next(left) >= 0 else loss * value)
    return model


def losses(folder: Path) -> list[float]:
    return [row["train/loss"] for row in events_of(folder)]


def same(a: Any, b: Any) -> bool:
    """Whether two nested states are equal to the bit; nan equals nan."""
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b) or (a != a and b != b)
