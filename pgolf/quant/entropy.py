"""What codes take at least, without knowing where they stand."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def order0_bits(codes: Tensor) -> Tensor:
    """Bits a code by the histogram of all of them, float64 []; codes from -127 to 127."""
    counts = torch.bincount(codes.flatten().long() + 127, minlength=255).double()
    share = counts / max(codes.numel(), 1)
    return -torch.special.xlogy(share, share).sum() / math.log(2)
