"""RMS norm without weights, the only norm in these models."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor) -> Tensor:
    """x divided by the root mean square of its last dimension, in x's own dtype.

    Autocast runs rms_norm in fp32 on some versions of torch; the cast back keeps the residual
    stream in one dtype.
    """
    return F.rms_norm(x, (x.size(-1),)).to(x.dtype)
