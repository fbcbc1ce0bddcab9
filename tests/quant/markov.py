"""A model of thousands of parameters that has learned a made-up language, and that language."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from pgolf.model.baseline import BaselineGPT
from tests.model.tiny import SIZES

VOCAB, LENGTH, STEPS = 61, 32, 120
CONFIG: dict[str, Any] = {
    **SIZES,
    "_target_": "pgolf.model.baseline.BaselineGPT",
    "num_layers": 3,
    "model_dim": 32,
    "train_seq_len": LENGTH,
}


def texts(count: int, seed: int, length: int = LENGTH) -> Tensor:
    """ids_BT of a Markov chain."""
    language = torch.Generator().manual_seed(0)
    chance_VV = (2.5 * torch.randn(VOCAB, VOCAB, generator=language)).softmax(dim=-1)
    generator = torch.Generator().manual_seed(seed)
    ids = [torch.randint(VOCAB, (count,), generator=generator)]
    while len(ids) < length:
        ids.append(torch.multinomial(chance_VV[ids[-1]], 1, generator=generator)[:, 0])
    return torch.stack(ids, dim=1)


def untrained() -> BaselineGPT:
    return BaselineGPT(**{key: value for key, value in CONFIG.items() if key != "_target_"})


@functools.cache
def learned() -> dict[str, Tensor]:
    """Weights after some steps."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = untrained()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(STEPS):
        ids_BT = texts(16, 1000 + step, LENGTH + 1)
        loss = model(ids_BT[:, :-1], ids_BT[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def trained() -> BaselineGPT:
    model = untrained()
    model.load_state_dict(learned())
    return model
