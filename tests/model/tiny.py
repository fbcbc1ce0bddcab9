"""Models of a few thousand parameters for tests, with weights that make every part matter."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pgolf.model.baseline import BaselineGPT
from pgolf.model.recurrent import RecurrentGPT

SIZES = {
    "vocab_size": 61,
    "num_layers": 5,
    "model_dim": 24,
    "num_heads": 4,
    "num_kv_heads": 2,
    "train_seq_len": 16,
}
RECURRENT = {
    "rope_dims": 4,
    "num_loops": 2,
    "loop_start": 1,
    "loop_end": 2,
    "parallel_start": 3,
    "xsa_last_n": 3,
    "embed_dtype": "fp32",
}


def tiny_recurrent(seed: int = 0, **changes: Any) -> RecurrentGPT:
    return _randomized(RecurrentGPT(**{**SIZES, **RECURRENT, **changes}), seed)


def tiny_baseline(seed: int = 0, **changes: Any) -> BaselineGPT:
    return _randomized(BaselineGPT(**{**SIZES, **changes}), seed)


@torch.no_grad()
def _randomized(model: Any, seed: int) -> Any:
    # The initial output projections are zero: as it is drawn, a block does nothing.
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim < 2:
            parameter.add_(0.2 * noise)
        else:
            parameter.copy_(0.3 * noise)
    return model


def random_ids(*shape: int, vocab_size: int = 61, seed: int = 0) -> torch.Tensor:
    return torch.randint(vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
