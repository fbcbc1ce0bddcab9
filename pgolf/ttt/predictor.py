"""What a predictor is to a ledger: logits, of which the ledger makes the score itself.

So a score is that of a distribution over the whole vocabulary, and no predictor meets the last
token that it is scored by. Legend: B batch, T time, N last positions, V vocab_size.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Predictor(Protocol):
    """Anything with logits; parameters and buffers of a module must not change in the call."""

    def logits(self, ids_BT: Tensor, last_n: int) -> Tensor: ...


def nll_of(predictor: Predictor, ids_BT: Tensor, targets_BN: Tensor) -> Tensor:
    """Nats of each of the last N targets by a softmax over the logits, in fp32 (fp64 stays).

    Args:
        ids_BT: int64; the input at each position.
        targets_BN: int64; the token after each of the last N positions.

    Returns:
        [B, N], with a gradient where the logits have one.
    """
    logits_BNV = predictor.logits(ids_BT, targets_BN.size(1))
    logits_BNV = logits_BNV.to(torch.promote_types(logits_BNV.dtype, torch.float32))
    nll = F.cross_entropy(logits_BNV.flatten(0, 1), targets_BN.flatten(), reduction="none")
    return nll.view(targets_BN.shape)
