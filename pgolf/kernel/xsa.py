"""XSA, exclusive self-attention: what a head says beyond its own value.

Legend: B batch, T time, H query heads, G key-value heads, g = H/G, K head_dim.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pgolf.kernel.choice import use_fused


def exclude_own_value(y_BTHK: Tensor, v_BTGK: Tensor) -> Tensor:
    """y minus its projection on the value at its own position.

    What attention says about a position through that position's own value is already in the
    residual stream; the head keeps what it learned from the others (arXiv 2603.09078, PR #1738).

    Args:
        y_BTHK: output of attention; any strides as long as K is contiguous.
        v_BTGK: values in y's dtype, likewise; each serves g query heads. A value of 0 takes nothing
            away.

    Returns:
        [B, T, H, K].
    """
    if use_fused(y_BTHK):
        from pgolf.kernel.fused.xsa import exclude_own_value_fused

        return exclude_own_value_fused(y_BTHK, v_BTGK)
    return exclude_own_value_eager(y_BTHK, v_BTGK)


def exclude_own_value_eager(y_BTHK: Tensor, v_BTGK: Tensor) -> Tensor:
    """The definition of `exclude_own_value`."""
    B, T, H, K = y_BTHK.shape
    direction_BTG1K = F.normalize(v_BTGK, dim=-1)[:, :, :, None, :]
    y_BTGgK = y_BTHK.reshape(B, T, v_BTGK.size(2), -1, K)
    along_BTGg1 = (y_BTGgK * direction_BTG1K).sum(-1, keepdim=True)
    return (y_BTGgK - along_BTGg1 * direction_BTG1K).reshape(B, T, H, K)
